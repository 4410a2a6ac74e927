"""Other names of losses: those of papers, of TRL's `loss_type` and of other implementations.

`LOSSES` finds a loss under each of them, in any case, with or without - and _ between the words. A name that
implementations give to different losses is listed with all of them, and the error on looking it up names them.
"""

import re

from toymodel._public import own_names

__dir__ = own_names(globals())

#: By alias: the loss's name in `LOSSES`, or several names if the alias is ambiguous.
ALIASES: dict[str, str] = {
    # DPO and what changes its margin or its labels
    "sigmoid": "dpo",  # TRL
    "reverse_kl": "dpo",  # TRL's f_divergence_type
    "conservative_dpo": "cdpo",
    "robust": "robust_dpo",  # TRL
    "length_regularised_dpo": "rdpo",
    "length_regularized_dpo": "rdpo",
    "offset_dpo": "odpo",
    "dpo_with_offset": "odpo",
    "rso": "hinge",
    "slic_norm": "hinge",
    "ipo": "ipo_sum ipo_lennorm",  # the paper sums log-probabilities, TRL averages them
    "sigmoid_norm": "dpo_sigmoid_norm",  # TRL
    "dpo_norm": "dpo_sigmoid_norm",
    "length_normalised_dpo": "dpo_sigmoid_norm",
    "length_normalized_dpo": "dpo_sigmoid_norm",
    "f_dpo": "fdpo_js fdpo_forward_kl fdpo_alpha",
    "js_divergence": "fdpo_js",  # TRL's f_divergence_type
    "forward_kl": "fdpo_forward_kl",  # TRL's f_divergence_type
    "alpha_divergence": "fdpo_alpha",  # TRL's f_divergence_type
    "χpo": "chi_po",
    "bounded_dpo": "bdpo",
    "exo": "exo_pair",
    "lrml": "discopop",
    # DPO with something for the chosen
    "rpo": "dpo_nll_mean",
    "rpo_alpha": "dpo_nll_mean",  # TRL
    "pref_ftx": "dpo_nll_mean",  # LLaMA-Factory
    "nll_loss_coef": "dpo_nll_mean",  # OpenRLHF
    "iterative_rpo": "dpo_nll_mean",
    "dpo_nll": "dpo_nll_mean",
    "dpo_sft": "dpo_nll_mean",
    "sigmoid_sft": "dpo_nll_mean",  # TRL: loss_type ["sigmoid", "sft"]
    "dpo_positive": "dpop",
    "smaug": "dpop",
    "pdpo": "dpop",
    "ddpo": "dpop",
    # without a reference
    "cpo": "cpo_nll_sum cpo_nll_mean cpo_pref_only",  # likelihood summed (paper) or averaged (TRL), or left out
    "reference_free": "cpo_pref_only",
    "simpo_nll": "cpo_simpo",
    "simpo_sft": "cpo_simpo",
    "cpo_alpha": "cpo_nll_mean",  # TRL
    "slic": "slic_hf",
    "rrhf": "rrhf_rank",
    "arpo": "arpo_pref_only",
    "sft": "sft_mean",  # TRL
    "nll": "sft_mean",
    # one term for each response
    "sppo": "sppo_half sppo_hard sppo_soft_half",  # paper, TRL (twice that), soft labels
    "kto": "kto_pair",
    "apo": "apo_zero apo_down",
    "apo_zero_unpaired": "apo_zero",  # TRL
    "nca": "nca_pair",
    "bco": "bco_pair",
    "biased_nca": "bco_pair",
    "bpo": "bpo_logistic bpo_hinge",
}


def plain(name: str) -> str:
    """A name in lower case without separators."""
    return re.sub(r"[-_+\s]", "", name.lower())
