// What every unit shares. No #include anywhere: the compiler library of the wheel alone must do.
//
// REAL is the arithmetic of a unit: float, or double by -DREAL=double.
#ifndef REAL
#define REAL float
#endif
#ifdef HOST_EMUL
#define __grid_constant__
#endif
