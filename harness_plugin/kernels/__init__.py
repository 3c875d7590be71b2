"""The C code that computes between PyTorch's matrix products on a CPU, and the CPU's instructions that it uses.

`instructions` says which of them there are. `library` compiles the C files for them, once, and loads the result. In C,
`steps` has norms, rotary embedding, gates and rounding, `attention` and `attention_int16` are that of packs, and
`product` multiplies int16 matrices.
"""
