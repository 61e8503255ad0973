"""`libneuralnetworks.so` for this machine: NNAPI's C functions over the objects of `nnapi.runtime`.

header.py     the functions, enumerations and structures as data, and as NeuralNetworks.h
library.c     what has to be C: start Python once, in whatever process the library is loaded into
build.py      compile both, and find what was compiled
functions.py  one row per function: how its arguments become Python values, and what it calls
"""
