"""Countries and some territories: ISO code, usual short name, and the flag in the language of `grammar`.

Emblems are simplified; bands, proportions and colours are those of the flags in use. Codes are
ISO 3166 alpha-2, with `XK` (Kosovo), `EU`, and the `GB-` subdivisions as the public renderings name them.
Nepal's pennants are drawn on white. A line that begins with blanks continues the one above.
"""

from __future__ import annotations

COUNTRIES = """
AD; Andorra; v blue*8 yellow*9 red*8 7:10 | arms gold/brown/red .5,.5 .46
AE; United Arab Emirates; h green white black 1:2 | poly red 0,0 .25,0 .25,1 0,1
AF; Afghanistan; v black red green | wreath white .5,.5 .4 | temple white .5,.5 .2
AG; Antigua and Barbuda; field red | poly black 0,0 1,0 .72,.55 .28,.55 |
    poly azure .21,.42 .79,.42 .66,.68 .34,.68 | halfsun yellow .5,.43 .62 |
    poly white .34,.68 .66,.68 .5,1
AL; Albania; field red 5:7 | two-headed-eagle black .5,.5 .75
AM; Armenia; h red blue orange 1:2
AO; Angola; h red black | gear yellow .5,.52 .42 | disc black .48,.48 .3 | disc red .47,.38 .24 |
    star yellow .46,.4 .2
AR; Argentina; h sky white sky 5:8 | sun gold .5,.5 .22
AS; American Samoa; field navy 1:2 | triangle red fly .96 | triangle white fly .9 | eagle brown .85,.5 .6
AT; Austria; h red white red
AU; Australia; field navy 1:2 | canton navy .5x.5 union | star7 white .25,.75 .3 |
    stars white 4 southern .75,.48 .14 .4x.66
AW; Aruba; field azure | poly yellow 0,.7 1,.7 1,.76 0,.76 | poly yellow 0,.84 1,.84 1,.9 0,.9 |
    star4 red .14,.22 .3
AX; Aland; field blue 17:26 | cross yellow nordic .3 | cross red nordic .12
AZ; Azerbaijan; h turquoise red lightgreen 1:2 | crescent+star white .5,.5 .26
BA; Bosnia and Herzegovina; field navy 1:2 | poly yellow .27,0 .77,0 .77,1 |
    stars white 8 diagonal .43,.5 .12 .9x1
BB; Barbados; v navy yellow navy | trident black .5,.5 .48
BD; Bangladesh; field green 3:5 | disc red .45,.5 .66
BE; Belgium; v black yellow red 13:15
BF; Burkina Faso; h red green | star yellow .5,.5 .38
BG; Bulgaria; h white green red 3:5
BH; Bahrain; field red 3:5 | serrated white .42 5
BI; Burundi; field red 3:5 | poly lightgreen 0,0 .5,.5 0,1 | poly lightgreen 1,0 .5,.5 1,1 |
    saltire white .16 | disc white .5,.5 .56 | stars red 3 triangle .5,.52 .14 .3x.26
BJ; Benin; h yellow red | poly green 0,0 .4,0 .4,1 0,1
BM; Bermuda; field red 1:2 | canton navy .5x.5 union | shield white/red .75,.5 .5
BN; Brunei; field yellow 1:2 | poly white 0,.02 1,.5 1,.75 0,.27 | poly black 0,.25 1,.72 1,.98 0,.5 |
    wreath red .5,.52 .5
BO; Bolivia; h red yellow green 15:22
BR; Brazil; field green 7:10 | rhombus yellow .5,.5 1.22 | disc navy .5,.5 .5
BS; Bahamas; h turquoise yellow turquoise 1:2 | triangle black hoist .43
BT; Bhutan; split up yellow orange | dragon white .5,.5 .72
BW; Botswana; h sky*9 white black*4 white sky*9 2:3
BY; Belarus; h red*2 lightgreen 1:2 | poly white 0,0 .11,0 .11,1 0,1 | ornament red .055,.5 1
BZ; Belize; field blue 2:3 | poly red 0,0 1,0 1,.1 0,.1 | poly red 0,.9 1,.9 1,1 0,1 | disc white .5,.5 .7 |
    wreath green .5,.5 .64 | shield brown/yellow .5,.5 .36
CA; Canada; v red white*2 red 1:2 | maple red .5,.5 .88
CC; Cocos Islands; field green 1:2 | disc yellow .15,.3 .4 | palm green .15,.3 .3 |
    crescent yellow .5,.5 .45 | stars yellow 4 southern .78,.5 .1 .36x.6
CD; DR Congo; field azure 3:4 | diagonal up yellow .3 | diagonal up red .2 | star yellow .16,.22 .4
CF; Central African Republic; h navy white green yellow | poly red .42,0 .58,0 .58,1 .42,1 |
    star yellow .17,.13 .22
CG; Republic of the Congo; split up green red | poly yellow 0,1 .667,0 1,0 .333,1
CH; Switzerland; field red 1:1 | plus white .5,.5 .64
CI; Ivory Coast; v orange white green
CK; Cook Islands; field navy 1:2 | canton navy .5x.5 union | stars white 15 circle .75,.5 .12 .62x.62
CL; Chile; h white red | canton blue .333x.5 star white .5,.5 .55
CM; Cameroon; v green red yellow | star yellow .5,.5 .3
CN; China; field red | star yellow .167,.27 .34 | stars yellow 4 arc .35,.27 .1 .2x.44
CO; Colombia; h yellow*2 navy red
CR; Costa Rica; h navy white red*2 white navy 3:5
CU; Cuba; stripes 5 blue white 1:2 | triangle red hoist .43 | star white .14,.5 .34
CV; Cape Verde; h navy*6 white red white navy*3 10:17 | stars yellow 10 circle .375,.62 .09 .5x.5
CW; Curacao; h navy*5 yellow navy*2 | star white .12,.2 .15 | star white .22,.36 .2
CX; Christmas Island; split down green blue 1:2 | disc gold .5,.5 .25 | bird gold .8,.25 .4 |
    stars white 4 southern .2,.6 .1 .3x.6
CY; Cyprus; field white 2:3 | map orange .5,.4 .6 | leaf green .44,.72 .22 60 | leaf green .56,.72 .22 -60
CZ; Czech Republic; h white red | triangle navy hoist .5
DE; Germany; h black red yellow 3:5
DJ; Djibouti; h sky lightgreen | triangle white hoist .56 | star red .19,.5 .3
DK; Denmark; field red 28:37 | cross white nordic .14
DM; Dominica; field darkgreen 1:2 | cross yellow .3 | cross white .1 | poly black .47,0 .5,0 .5,1 .47,1 |
    poly black 0,.45 1,.45 1,.52 0,.52 | disc red .5,.5 .5 | bird purple .5,.5 .28
DO; Dominican Republic; field white 5:8 | poly navy 0,0 .43,0 .43,.42 0,.42 |
    poly red .57,0 1,0 1,.42 .57,.42 | poly red 0,.58 .43,.58 .43,1 0,1 |
    poly navy .57,.58 1,.58 1,1 .57,1 | shield green/red .5,.5 .17
DZ; Algeria; v green white | crescent red .5,.5 .5 | star red .55,.5 .24
EC; Ecuador; h yellow*2 navy red | arms brown/sky/green .5,.5 .6
EE; Estonia; h azure black white 7:11
EG; Egypt; h red white black | eagle gold/white .5,.5 .26
EH; Western Sahara; h black white green 1:2 | triangle red hoist .36 | crescent+star red .56,.5 .26
ER; Eritrea; h lightgreen azure 1:2 | triangle red hoist 1 | wreath gold .25,.5 .5 | spear gold .25,.5 .4
ES; Spain; h red yellow*2 red | arms red/gold/red .3,.5 .38
ET; Ethiopia; h green yellow red 1:2 | disc blue .5,.5 .62 | pentagram yellow .5,.5 .5
EU; European Union; field blue | stars yellow 12 circle .5,.5 .11 .66x.66
FI; Finland; field white 11:18 | cross navy nordic .27
FJ; Fiji; field sky 1:2 | canton navy .5x.5 union | shield white/red .75,.5 .52
FK; Falkland Islands; field navy 1:2 | canton navy .5x.5 union | shield white/azure .75,.5 .56
FM; Micronesia; field sky 10:19 | stars white 4 circle .5,.5 .2 .74x.74
FO; Faroe Islands; field white 8:11 | cross blue nordic .25 | cross red nordic .125
FR; France; v blue white red
GA; Gabon; h green yellow blue 3:4
GB; United Kingdom; union 1:2
GB-ENG; England; field white 3:5 | cross red .2
GB-SCT; Scotland; field blue 3:5 | saltire white .2
GB-WLS; Wales; h white green | dragon red .5,.5 .82
GD; Grenada; field red 3:5 | poly green .1,.14 .5,.5 .1,.86 | poly green .9,.14 .5,.5 .9,.86 |
    poly yellow .1,.14 .9,.14 .5,.5 | poly yellow .1,.86 .9,.86 .5,.5 | disc red .5,.5 .27 |
    star yellow .5,.5 .22 | stars yellow 3 row .5,.07 .1 1x.1 | stars yellow 3 row .5,.93 .1 1x.1
GE; Georgia; field white | cross red .2 | plus red .2,.2 .2 | plus red .8,.2 .2 | plus red .2,.8 .2 |
    plus red .8,.8 .2
GF; French Guiana; split down green yellow | star red .5,.5 .32
GG; Guernsey; field white | cross red .24 | plus yellow .5,.5 .7 | poly red .43,.4 .57,.4 .57,.6 .43,.6 |
    plus yellow .5,.5 .5
GH; Ghana; h red yellow green | star black .5,.5 .34
GI; Gibraltar; h white*2 red 1:2 | temple red .5,.37 .56 | key yellow .5,.8 .3
GL; Greenland; h white red | halfdisc red .42,.5 .66 | halfdisc white .42,.5 .66 180
GM; Gambia; h red*6 white navy*4 white green*6
GN; Guinea; v red yellow green
GP; Guadeloupe; h navy black*2 | stars yellow 3 row .5,.17 .22 1.1x.1 | sun yellow .5,.65 .6
GQ; Equatorial Guinea; h lightgreen white red | triangle azure hoist .24 | shield grey .5,.5 .16 |
    tree lightgreen .5,.48 .1
GR; Greece; stripes 9 blue white | canton blue .37x.556 cross white .2
GT; Guatemala; v azure white azure 5:8 | wreath green .5,.5 .32
GU; Guam; field navy 22:41 | border red .05 | oval red .5,.5 .52 | oval sky .5,.5 .46 |
    palm green .5,.5 .3
GW; Guinea-Bissau; h yellow green 1:2 | poly red 0,0 .333,0 .333,1 0,1 | star black .167,.5 .26
GY; Guyana; field green 3:5 | triangle white hoist 1 | triangle yellow hoist .94 |
    triangle black hoist .52 | triangle red hoist .46
HK; Hong Kong; field red | flower white/red .5,.5 .58
HN; Honduras; h azure white azure 1:2 | stars azure 4 grid .5,.5 .1 .5x.3 | star azure .5,.5 .1
HR; Croatia; h red white navy 1:2 | checkers white/red .5,.46 .5
HT; Haiti; h blue red 3:5 | poly white .38,.32 .62,.32 .62,.68 .38,.68 | palm green .5,.48 .26
HU; Hungary; h red white green 1:2
ID; Indonesia; h red white
IE; Ireland; v green white orange 1:2
IL; Israel; h white*2 blue*2 white*9 blue*2 white*2 8:11 | star6 blue .5,.5 .4 | star6 white .5,.5 .28
IM; Isle of Man; field red 1:2 | pinwheel white .5,.5 .6
IN; India; h orange white green | wheel navy .5,.5 .28
IQ; Iraq; h red white black | inscription darkgreen .5,.5 .5
IR; Iran; h green white red 4:7 | flower red .5,.5 .24
IS; Iceland; field blue 18:25 | cross white nordic .22 | cross red nordic .11
IT; Italy; v green white red
JE; Jersey; field white 3:5 | saltire red .14 | shield red/gold .5,.22 .28
JM; Jamaica; field black 1:2 | poly green 0,0 1,0 .5,.5 | poly green 0,1 1,1 .5,.5 | saltire yellow .2
JO; Jordan; h black white green 1:2 | triangle red hoist .5 | star7 white .16,.5 .16
JP; Japan; field white | disc red .5,.5 .6
KE; Kenya; h black*6 white red*6 white green*6 | spear white .46,.5 .86 20 | spear white .54,.5 .86 -20 |
    oval red .5,.5 .6 | oval black .5,.5 .2
KG; Kyrgyzstan; field red 3:5 | sun yellow .5,.5 .66 | ring red .5,.5 .3
KH; Cambodia; h blue red*2 blue 16:25 | temple white .5,.5 .44
KI; Kiribati; field red 1:2 | sun yellow .5,.45 .52 | bird yellow .5,.12 .2 | poly navy 0,.5 1,.5 1,1 0,1 |
    poly white 0,.5 1,.5 1,.58 0,.58 | poly white 0,.66 1,.66 1,.74 0,.74 |
    poly white 0,.83 1,.83 1,.91 0,.91
KM; Comoros; h yellow white red azure 3:5 | triangle lightgreen hoist .5 | crescent white .14,.5 .44 |
    stars white 4 column .2,.5 .07 .1x.3
KN; Saint Kitts and Nevis; split up green red | diagonal up yellow .42 | diagonal up black .34 |
    star white .32,.68 .24 | star white .68,.32 .24
KP; North Korea; h blue*6 white*2 red*22 white*2 blue*6 1:2 | disc white .35,.5 .44 | star red .35,.5 .42
KR; South Korea; field white | taegeuk red/navy .5,.5 .5 30 | trigram black .2,.2 .2 -55 |
    trigram black .8,.2 .2 55 | trigram black .2,.8 .2 55 | trigram black .8,.8 .2 -55
KW; Kuwait; h green white red 1:2 | poly black 0,0 .25,.333 .25,.667 0,1
KY; Cayman Islands; field navy 1:2 | canton navy .5x.5 union | shield red/white .75,.5 .58
KZ; Kazakhstan; field turquoise 1:2 | sun yellow .54,.42 .44 | bird yellow .54,.66 .3 |
    ornament yellow .07,.5 .94
LA; Laos; h red navy*2 red | disc white .5,.5 .4
LB; Lebanon; h red white*2 red | tree green .5,.5 .48
LC; Saint Lucia; field sky 1:2 | poly white .5,.12 .62,.86 .38,.86 | poly black .5,.2 .6,.86 .4,.86 |
    poly yellow .5,.5 .62,.86 .38,.86
LI; Liechtenstein; h navy red 3:5 | crown gold .22,.25 .26
LK; Sri Lanka; field gold 1:2 | poly green .05,.08 .18,.08 .18,.92 .05,.92 |
    poly orange .18,.08 .31,.08 .31,.92 .18,.92 | poly maroon .36,.08 .96,.08 .96,.92 .36,.92 |
    lion gold .65,.5 .6
LR; Liberia; stripes 11 red white 10:19 | canton navy .21x.4545 star white .5,.5 .7
LS; Lesotho; h navy*3 white*4 green*3 | hat black .5,.5 .38
LT; Lithuania; h yellow green red 3:5
LU; Luxembourg; h red white turquoise 3:5
LV; Latvia; h maroon*2 white maroon*2 1:2
LY; Libya; h red black*2 green 1:2 | crescent white .47,.5 .24 | star white .55,.5 .13
MA; Morocco; field red | pentagram darkgreen .5,.5 .42
MC; Monaco; h red white 4:5
MD; Moldova; v blue yellow red 1:2 | eagle brown/red .5,.5 .5
ME; Montenegro; field red 1:2 | border gold .06 | two-headed-eagle gold/navy .5,.5 .66
MG; Madagascar; h red green | poly white 0,0 .333,0 .333,1 0,1
MH; Marshall Islands; field navy 10:19 | poly orange 0,1 1,.02 1,.2 | poly white 0,1 1,.2 1,.42 |
    star12 white .22,.3 .46
MK; North Macedonia; field red 1:2 | rays yellow 8 | disc red .5,.5 .36 | disc yellow .5,.5 .3
ML; Mali; v lightgreen yellow red
MM; Myanmar; h yellow lightgreen red | star white .5,.52 .72
MN; Mongolia; v red blue red 1:2 | ornament yellow .167,.55 .6 | disc yellow .167,.22 .16
MO; Macau; field green | flower white .5,.6 .36 | stars yellow 5 arc .5,.25 .1 .1x.1
MP; Northern Mariana Islands; field blue 1:2 | ring white .5,.5 .74 | oval grey .5,.6 .3 |
    star white .5,.48 .36
MR; Mauritania; field darkgreen | crescent yellow .5,.45 .5 -90 | star yellow .5,.33 .2
MT; Malta; v white red | plus grey .12,.16 .2
MU; Mauritius; h red navy yellow green
MV; Maldives; field red | poly green .167,.25 .833,.25 .833,.75 .167,.75 | crescent white .51,.5 .32
MW; Malawi; h black red lightgreen | halfsun red .5,.3 .4
MX; Mexico; v green white red 4:7 | eagle brown .5,.48 .28 | wreath green .5,.52 .26
MY; Malaysia; stripes 14 red white 1:2 | canton navy .5x.57 crescent yellow .38,.5 .62 |
    star12 yellow .3,.285 .28
MZ; Mozambique; h green*6 white black*6 white yellow*6 | triangle red hoist .4 | star yellow .14,.5 .32 |
    book white .14,.54 .14
NA; Namibia; split up navy green | diagonal up white .36 | diagonal up red .28 | sun yellow .17,.27 .3
NC; New Caledonia; h blue red green 1:2 | disc black .33,.5 .64 | disc yellow .33,.5 .6 |
    spear black .33,.5 .5
NE; Niger; h orange white lightgreen 6:7 | disc orange .5,.5 .26
NF; Norfolk Island; v green*7 white*9 green*7 1:2 | tree green .5,.5 .8
NG; Nigeria; v green white green 1:2
NI; Nicaragua; h blue white blue 3:5 | arrow sky .5,.5 .16 | ring gold .5,.5 .24
NL; Netherlands; h red white blue
NO; Norway; field red 8:11 | cross white nordic .25 | cross navy nordic .125
NP; Nepal; field white 11:9 | poly navy 0,0 .98,.5 .42,.52 .98,1 0,1 |
    poly red .03,.05 .85,.48 .33,.48 .87,.97 .03,.97 | crescent white .24,.33 .24 -90 |
    star12 white .24,.75 .3
NR; Nauru; h navy*11 yellow*2 navy*11 1:2 | star12 white .25,.75 .26
NU; Niue; field yellow 1:2 | canton navy .5x.5 union | star yellow .25,.25 .14
NZ; New Zealand; field navy 1:2 | canton navy .5x.5 union | stars red 4 southern .75,.5 .14 .36x.6
OM; Oman; h white red green 1:2 | poly red 0,0 .3,0 .3,1 0,1 | swords white .15,.17 .24
PA; Panama; field white | poly red .5,0 1,0 1,.5 .5,.5 | poly blue 0,.5 .5,.5 .5,1 0,1 |
    star blue .25,.25 .24 | star red .75,.75 .24
PE; Peru; v red white red
PF; French Polynesia; h red white*2 red | disc blue .5,.5 .4 | halfsun yellow .5,.5 .36 |
    ship red .5,.55 .26
PG; Papua New Guinea; split down red black 3:4 | bird yellow .68,.28 .46 |
    stars white 5 southern .25,.68 .1 .36x.5
PH; Philippines; h blue red 1:2 | triangle white hoist .43 | sun yellow .15,.5 .34
PK; Pakistan; v white darkgreen*3 | crescent white .6,.5 .56 -40 | star white .68,.38 .18
PL; Poland; h white red 5:8
PM; Saint Pierre and Miquelon; field azure | poly green 0,0 .25,0 .25,.333 0,.333 |
    poly white 0,.333 .25,.333 .25,.667 0,.667 | poly red 0,.667 .25,.667 .25,1 0,1 |
    ship yellow .62,.46 .9
PR; Puerto Rico; stripes 5 red white | triangle blue hoist .58 | star white .19,.5 .4
PS; Palestine; h black white green 1:2 | triangle red hoist .33
PT; Portugal; v darkgreen*2 red*3 | disc yellow .4,.5 .5 | shield red/white .4,.5 .36
PW; Palau; field azure 5:8 | disc yellow .45,.5 .6
PY; Paraguay; h red white blue 11:20 | wreath green .5,.5 .22
QA; Qatar; field maroon 11:28 | serrated white .36 9
RO; Romania; v navy yellow red
RS; Serbia; h red navy white | two-headed-eagle white/red .36,.48 .56 | crown yellow .36,.13 .14
RU; Russia; h white blue red
RW; Rwanda; h turquoise*2 yellow green | sun yellow .8,.25 .24
SA; Saudi Arabia; field green | inscription white .5,.42 .8 | sword white .5,.72 .5
SB; Solomon Islands; split up blue darkgreen 1:2 | diagonal up yellow .08 |
    stars white 5 grid .16,.26 .12 .5x.4
SC; Seychelles; fan navy yellow red white green 1:2
SD; Sudan; h red white black 1:2 | triangle green hoist .333
SE; Sweden; field blue 5:8 | cross yellow nordic .2
SG; Singapore; h red white | crescent white .16,.25 .38 | stars white 5 circle .28,.26 .07 .18x.18
SH; Saint Helena; field navy 1:2 | canton navy .5x.5 union | shield azure/yellow .77,.5 .42
SI; Slovenia; h white blue red 1:2 | shield blue/white .25,.32 .3
SK; Slovakia; h white blue red | shield white .36,.5 .56 | shield red .36,.49 .5 | plus white .36,.44 .3 |
    disc blue .36,.64 .14
SL; Sierra Leone; h lightgreen white azure
SM; San Marino; h white sky 3:4 | arms gold/sky/green .5,.5 .5
SN; Senegal; v green yellow red | star green .5,.5 .32
SO; Somalia; field azure | star white .5,.5 .5
SR; Suriname; h green*2 white red*4 white green*2 | star yellow .5,.5 .4
SS; South Sudan; h black*6 white red*6 white green*6 1:2 | triangle blue hoist .43 | star yellow .15,.5 .3
ST; Sao Tome and Principe; h lightgreen*2 yellow*3 lightgreen*2 1:2 | triangle red hoist .25 |
    star black .5,.5 .28 | star black .75,.5 .28
SV; El Salvador; h blue white blue 9:16 | arrow gold .5,.48 .14 | wreath green .5,.5 .26
SX; Sint Maarten; h red navy | triangle white hoist .5 | disc gold .17,.5 .38 | shield azure .17,.5 .28
SY; Syria; h red white black | star green .28,.5 .22 | star green .72,.5 .22
SZ; Eswatini; h blue*3 yellow red*8 yellow blue*3 | spear yellow .5,.5 .9 90 | oval white .5,.5 .62 90 |
    oval black .42,.5 .36
TC; Turks and Caicos Islands; field navy 1:2 | canton navy .5x.5 union | shield yellow/pink .75,.5 .46
TD; Chad; v navy yellow red
TG; Togo; stripes 5 green yellow | canton red .4x.6 star white .5,.5 .55
TH; Thailand; h red white navy*2 white red
TJ; Tajikistan; h red*2 white*3 green*2 1:2 | crown gold .5,.54 .18 | stars yellow 7 arc .5,.42 .05 .1x.1
TK; Tokelau; field navy 1:2 | poly yellow .2,.8 .85,.25 .8,.8 |
    poly yellow .12,.84 .86,.84 .86,.88 .12,.88 | stars white 4 southern .17,.32 .1 .3x.5
TL; Timor-Leste; field red 1:2 | triangle yellow hoist .5 | triangle black hoist .35 |
    star white .12,.5 .3 -20
TM; Turkmenistan; field lightgreen | poly red .11,0 .27,0 .27,1 .11,1 | ornament white .19,.5 1 |
    crescent white .42,.22 .24 -30
TN; Tunisia; field red | disc white .5,.5 .5 | crescent red .5,.5 .38 | star red .53,.5 .2
TO; Tonga; field red 1:2 | canton white .4x.5 plus red .5,.5 .7
TR; Turkey; field red | crescent white .36,.5 .5 | star white .52,.5 .25
TT; Trinidad and Tobago; field red 3:5 | poly white 0,0 .33,0 1,1 .67,1 |
    poly black .06,0 .27,0 .94,1 .73,1
TV; Tuvalu; field sky 1:2 | canton navy .5x.5 union | stars yellow 9 grid .77,.5 .16 .8x.8
TW; Taiwan; field red | canton navy .5x.5 star12 white .5,.5 .72
TZ; Tanzania; split up lightgreen turquoise | diagonal up yellow .42 | diagonal up black .3
UA; Ukraine; h blue yellow
UG; Uganda; h black yellow red black yellow red | disc white .5,.5 .32 | bird black .5,.5 .24
US; United States; stripes 13 red white 10:19 | canton navy .4x.54 stars white 50 grid .5,.5 .08 1.36x.98
UY; Uruguay; stripes 9 white blue | canton white .4x.556 sun gold .5,.5 .8
UZ; Uzbekistan; h turquoise*10 red white*10 red lightgreen*10 1:2 | crescent white .1,.16 .24 |
    stars white 12 grid .24,.16 .05 .36x.24
VA; Vatican City; v yellow white 1:1 | key yellow .75,.5 .4 40 | key grey .75,.5 .4 -40 |
    crown yellow .75,.36 .16
VC; Saint Vincent and the Grenadines; v blue yellow*2 green | diamond green .44,.4 .24 |
    diamond green .56,.4 .24 | diamond green .5,.62 .24
VE; Venezuela; h yellow navy red | stars white 8 rainbow .5,.54 .08 .5x.2
VG; British Virgin Islands; field navy 1:2 | canton navy .5x.5 union | shield green/white .75,.5 .58
VI; US Virgin Islands; field white | eagle yellow/red .5,.48 .9 | inscription azure .14,.5 .14 |
    inscription azure .86,.5 .14
VN; Vietnam; field red | star yellow .5,.5 .5
VU; Vanuatu; h red green 3:5 | pall black .36 | pall yellow .14 | pall black .07 |
    triangle black hoist .36 | ring yellow .13,.5 .26
WF; Wallis and Futuna; field red | canton red .4x.42 v navy white red | plus white .75,.5 .34 45
WS; Samoa; field red 1:2 | canton navy .5x.5 stars white 5 southern .5,.5 .18 .5x.66
XK; Kosovo; field blue 5:7 | map gold .5,.55 .5 | stars white 6 rainbow .5,.2 .1 .66x.1
YE; Yemen; h red white black
YT; Mayotte; field white | inscription red .5,.14 .5 | shield navy/red .5,.58 .4 | lion grey .3,.6 .36 |
    lion grey .7,.6 .36
ZA; South Africa; h red navy | pall white .36 | poly yellow 0,.1 .4,.5 0,.9 | pall green .2 |
    triangle black hoist .28
ZM; Zambia; field green | poly red .67,.36 .78,.36 .78,1 .67,1 | poly black .78,.36 .89,.36 .89,1 .78,1 |
    poly orange .89,.36 1,.36 1,1 .89,1 | bird orange .84,.18 .3
ZW; Zimbabwe; h lightgreen yellow red black red yellow lightgreen 1:2 | triangle black hoist .38 |
    triangle white hoist .35 | star red .12,.5 .34 | bird yellow .12,.48 .24
"""


def country_lines() -> tuple[tuple[str, str, str], ...]:
    """(code, name, specification) of every country, in the order of the table."""
    rows: list[str] = []
    for line in COUNTRIES.strip().splitlines():
        if line.startswith(" "):
            rows[-1] += " " + line.strip()
        else:
            rows.append(line)
    return tuple(
        (code.strip(), name.strip(), spec.strip()) for code, name, spec in (r.split(";") for r in rows)
    )
