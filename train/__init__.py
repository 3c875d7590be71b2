"""Training of preference judges. The command is `arena-rm train RECIPE`.

`config` has every field of a recipe. `prepare` puts the steps before training in their order: `data` mixes and selects
pairs, `split` says what is a duplicate, what is kept out and which pairs validate, `augment` makes pairs from others,
`teacher` takes labels from another judge, `render` makes what the network reads, `libraries` looks for what a recipe
needs. `init` starts from an adapter, `network` makes the network, `packed` and `attention` train it without padding,
`loss` and `trainer` are what a step does, `checkpoints` what survives a kill, and `run` is the whole run. `measure`
says what the adapter is worth; `record`, `model_card` and `card_values` write it down; `hub` uploads. `fit_surface`
fits the baseline of surface features.
"""
