"""The operation table: what each NNAPI operation means, on no device in particular."""
