"""`libneuralnetworks.so` for this machine: NNAPI's C functions over the objects of `nnapi.runtime`.

header.py     the functions, enumerations and structures as data, and as NeuralNetworks.h
library.c     what has to be C: start Python once, in whatever process the library is loaded into
source.py     the C around it, made of the data
build.py      compile it, and find what was compiled
functions.py  one row per function: its arguments, what it calls, where the result goes
arguments.py  how C's arguments become Python values, and back
handles.py    what C programs hold instead of objects
client.py     what C programs may do that Python programs need not
"""
