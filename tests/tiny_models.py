"""Random models of Hugging Face transformers, small and in float64, and random pairs for them."""

import warnings

import torch

V = 40
LLAMA = {
    **{"vocab_size": V, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "max_position_embeddings": 64},
}
GPT2 = {"vocab_size": V, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 4}
LORA = {"r": 3, "task_type": "CAUSAL_LM", "lora_dropout": 0.5}


def gpt2(**options):
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(**GPT2, bos_token_id=0, eos_token_id=0, **options))


def llama(**options):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**LLAMA, **options))


def gemma2():
    """Its embeddings and norms have code of their own, and its logits are capped after the last layer."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(Gemma2Config(**LLAMA, head_dim=4, final_logit_softcapping=0.5))


def lora(model, **options):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(**LORA, **options))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:  # one of the two factors starts at 0, which would hide the other
            torch.nn.init.normal_(parameter)
    return adapted


def partly_frozen():
    model = llama(tie_word_embeddings=True)
    model.model.embed_tokens.weight.requires_grad_(False)  # the head's, too
    model.model.layers[0].mlp.requires_grad_(False)
    return model


def head_alone():
    model = gpt2(tie_word_embeddings=False)
    model.requires_grad_(False)
    model.lm_head.requires_grad_(True)
    return model


MODELS = {
    "GPT-2": gpt2,
    "GPT-2 untied": lambda: gpt2(tie_word_embeddings=False),
    "Llama": llama,
    "Llama tied, a padding row": lambda: llama(tie_word_embeddings=True, pad_token_id=3),
    "Llama with biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "Gemma 2": gemma2,
    "LoRA on GPT-2": lambda: lora(gpt2(), target_modules=["c_attn", "c_proj"], fan_in_fan_out=True),
    "LoRA on all of Llama": lambda: lora(llama(), target_modules="all-linear"),
    "LoRA on the head": lambda: lora(llama(), target_modules=["q_proj", "lm_head"]),
    "LoRA with a trained head": lambda: lora(llama(), target_modules=["v_proj"], modules_to_save=["lm_head"]),
    "partly frozen": partly_frozen,
    "the head alone": head_alone,
}


def make(name, seed=0):
    """A model with weights of all sizes: norms and biases that start at 1 and 0 would hide mistakes."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        model = MODELS[name]().double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.train()  # dropout there must do nothing


def draw_pairs(rng, n, longest):
    """Pairs of n tokens and more, each answer of its own length."""
    lengths = rng.integers(1, longest + 1, (n, 3))
    return [tuple(rng.integers(0, V, length).tolist() for length in row) for row in lengths]
