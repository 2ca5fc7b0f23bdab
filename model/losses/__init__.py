"""What is minimised: L = L_VTC(V_cls, T_cls) + λ · L_VTC(V*, T*) + η · L_ITM."""
