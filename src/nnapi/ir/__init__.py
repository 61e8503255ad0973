"""The intermediate representation: an NNAPI model, immutable and valid after every stage."""
