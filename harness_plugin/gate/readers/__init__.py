"""What the gate reads: one file for each kind of stored run; `any_run` tells them apart.

`score_files` reads files of `arena-rm score`, `tournament` folders of `arena-rm judge`, `lm_eval_results` results of
lm-eval with samples (`lm_eval_files` finds them, `lm_eval_pairs` reads those of arena_pairs). `judge_fingerprints` is
what must agree of the judges.
"""
