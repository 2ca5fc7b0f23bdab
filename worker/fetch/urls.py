"""Reading the addresses that posts and redirects name."""

from __future__ import annotations

import re

import httpx2

from worker.errors import InvalidPost, Reason
from worker.fetch.addresses import parse_address

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]{0,19}):")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\Z")
_SHOWN_CHARACTERS = 200
_HINTS = {
    "data": "put the file's base64 into the image's `data` field",
    "file": "put the name below the media root into the image's `path` field",
}


def parse_url(text: str) -> httpx2.URL:
    """Read an absolute http or https address; the host in lower case, IDNA-encoded, without a trailing dot.

    Raises:
        InvalidPost: it must not be fetched; the detail holds neither its user, password nor query.
    """
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    if scheme not in ("http", "https"):
        hint = _HINTS.get(scheme, "only http: and https: are")
        raise _refused(f"{scheme}: addresses are not fetched: {hint}" if scheme else "no absolute address")
    try:
        return _checked(httpx2.URL(text.strip()))
    except (httpx2.InvalidURL, ValueError) as error:  # their messages may quote the whole
        raise _refused(f"{scheme}: not a usable address") from error


def follow(url: httpx2.URL, location: str) -> httpx2.URL:
    """The address that a redirect leads to.

    From https to http is refused: whoever listens on the way could then lead anywhere.

    Raises:
        InvalidPost: it must not be fetched.
    """
    try:
        target = str(url.join(location))
    except (httpx2.InvalidURL, ValueError) as error:
        raise _refused(f"{shown(url)}: redirect to what is not a usable address") from error
    try:
        following = parse_url(target)
    except InvalidPost as error:
        raise _refused(f"{shown(url)}: redirect: {error.detail}") from error
    if url.scheme == "https" and following.scheme == "http":
        raise _refused(f"{shown(url)}: redirect from https to http")
    return following


def shown(url: httpx2.URL) -> str:
    """For a person: bounded, without user, password, query and fragment, which may be secrets."""
    text = f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii').partition('?')[0]}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def port_of(url: httpx2.URL) -> int:
    """The port, the scheme's own where none is written."""
    return url.port or (443 if url.scheme == "https" else 80)


def _checked(url: httpx2.URL) -> httpx2.URL:
    if url.userinfo:
        raise _refused(f"{shown(url)}: addresses with a user name are not fetched")
    host = url.raw_host.decode("ascii").removesuffix(".")
    literal = parse_address(host)
    if literal is None and not _HOST.match(host):
        raise _refused(f"{url.scheme}: not a usable host name")
    if not 0 < port_of(url) < 1 << 16:
        raise _refused(f"{url.scheme}: not a usable port")
    return url.copy_with(host=host, fragment=None)


def _refused(detail: str) -> InvalidPost:
    return InvalidPost(Reason.IMAGE_REFUSED, detail)
