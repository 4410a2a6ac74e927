"""Gram entries without gradients are those of two plain backward passes (needs torch: `make reference`)."""

import csv
import json
import sys
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_close

from toymodel import PreferencePairs, cli, diagnose
from toymodel.data import answers
from toymodel.diagnosis.readers import load
from toymodel.gradients import pair_gram
from toymodel.models import pretrained

torch = pytest.importorskip("torch", reason="torch is not installed; `make reference` has it")
pytest.importorskip("transformers", reason="transformers is not installed; `make reference` has it")
pytest.importorskip("peft", reason="peft is not installed; `make reference` has it")

import tiny_models  # noqa: E402

from examples import torch_gradients  # noqa: E402
from toymodel.huggingface import TokenPair, load_model, measure_pairs, pair_logps, read_pairs, uses  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
ENTRIES = ("chosen_sq", "rejected_sq", "inner")
EPS = np.finfo(float).eps
make = lru_cache(tiny_models.make)


def plain(model, pairs):
    """By parameter, the three entries from built gradients, [3, N]; and both log-probabilities."""
    training = model.training
    arrays = torch_gradients.gradients_by_layer(model, pairs)
    model.train(training)
    names = [name.removeprefix("chosen_grad/") for name in arrays if name.startswith("chosen_grad/")]
    entries = {}
    for name in names:
        w, l = (arrays[f"{side}_grad/{name}"].reshape(len(pairs), -1) for side in ("chosen", "rejected"))  # noqa: E741
        entries[name] = np.stack([(w * w).sum(1), (l * l).sum(1), (w * l).sum(1)])
    return entries, [arrays["chosen_logps"], arrays["rejected_logps"]]


def assert_same(model, pairs):
    found = measure_pairs(model, pairs)
    entries, logps = plain(model, pairs)
    assert found["inner"].keys() == entries.keys()
    total = sum(entries.values())
    norms = np.stack([total[0], total[1], np.sqrt(total[0] * total[1])])
    # Two ways through a network of 2 layers: derivatives of either are sums of some hundreds of terms. Gemma computes
    # its norms in float32, whatever it is given.
    unit = 1e-6 if "Gemma" in type(model).__name__ else 1e4 * EPS
    for name, whole in entries.items():
        assert_close([found[entry][name] for entry in ENTRIES], whole, norms, unit)
    both = [found["chosen_logps"], found["rejected_logps"]]
    assert_close(both, logps, 1 + np.abs(logps), 1e3 * EPS)
    assert_close(pair_logps(model, pairs).T, logps, 1 + np.abs(logps), 1e3 * EPS)
    assert [[*map(len, pair[1:])] for pair in pairs] == np.transpose(
        [found["chosen_lengths"], found["rejected_lengths"]]
    ).tolist()


@pytest.mark.parametrize("name", tiny_models.MODELS)
def test_entries_are_those_of_two_plain_backward_passes(name):
    """Answers of different lengths, so with padding; short ones by places, long ones by built weights."""
    rng = np.random.default_rng(0)
    assert_same(make(name), tiny_models.draw_pairs(rng, 2, 4) + tiny_models.draw_pairs(rng, 2, 20))


@settings(max_examples=15)  # each takes a model there and back, twice over
@given(
    st.sampled_from(["GPT-2", "Llama tied, a padding row", "LoRA on all of Llama"]), st.integers(1, 30), st.integers()
)
def test_entries_of_answers_of_any_lengths(name, longest, seed):
    assert_same(make(name), tiny_models.draw_pairs(np.random.default_rng(abs(seed)), 1, longest))


@pytest.mark.parametrize("at_once", [1, 50, 400])
@pytest.mark.parametrize("name", ["GPT-2", "GPT-2 untied"])
def test_the_last_layer_in_parts_of_any_size(monkeypatch, at_once, name):
    monkeypatch.setattr(uses, "AT_ONCE", at_once)
    assert_same(make(name), tiny_models.draw_pairs(np.random.default_rng(1), 2, 9))


def test_a_bias_of_the_last_layer(monkeypatch):
    monkeypatch.setattr(uses, "AT_ONCE", 100)
    model = tiny_models.make("GPT-2")
    model.lm_head.bias = torch.nn.Parameter(torch.randn(tiny_models.V, dtype=torch.float64))
    assert_same(model, tiny_models.draw_pairs(np.random.default_rng(2), 2, 9))


def test_a_module_that_is_called_twice_counts_twice():
    model = tiny_models.make("Llama")
    model.model.layers[1].mlp = model.model.layers[0].mlp
    assert_same(model, tiny_models.draw_pairs(np.random.default_rng(3), 2, 12))


def test_a_tied_table_without_its_cross_terms_is_wrong(monkeypatch):
    """What others leave out is no small matter."""
    model, pairs = make("Llama tied, a padding row"), tiny_models.draw_pairs(np.random.default_rng(0), 4, 12)
    whole = measure_pairs(model, pairs)["inner"]["model.embed_tokens.weight"]
    monkeypatch.setattr(uses, "multiply_tied", lambda *_: 0)
    without = measure_pairs(model, pairs)["inner"]["model.embed_tokens.weight"]
    assert (abs(without / whole - 1) > 0.01).any()


def test_the_model_is_left_as_it_was():
    model = make("LoRA on GPT-2")
    before = [(p.requires_grad, p.grad) for p in model.parameters()], [m.training for m in model.modules()]
    assert True in before[1]
    measure_pairs(model, [((1, 2), (3,), (4, 5))])
    with pytest.raises(ValueError, match="a chosen has no tokens"):
        measure_pairs(model, [((1, 2), (), (4, 5))])
    assert ([(p.requires_grad, p.grad) for p in model.parameters()], [m.training for m in model.modules()]) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_equal_answers_have_one_gradient():
    found = measure_pairs(make("Llama"), [((1, 2), (3, 4), (3, 4))])
    for name, inner in found["inner"].items():
        assert_close([found["chosen_sq"][name], found["rejected_sq"][name]], inner, inner, 1e3 * EPS)


def test_what_cannot_be_followed_is_named():
    from transformers import MixtralConfig, MixtralForCausalLM

    pair = [((1, 2), (3,), (4, 5))]
    model = MixtralForCausalLM(MixtralConfig(**tiny_models.LLAMA, num_local_experts=2))
    with pytest.raises(ValueError, match=r"cannot follow `model.layers.0.mlp.*`.* whose parameters are trained"):
        measure_pairs(model, pair)
    with pytest.raises(
        ValueError, match="token 40 is not among the model's 40; does the tokenizer belong to another model"
    ):
        measure_pairs(make("Llama"), [((1, 2), (3,), (4, 40))])
    frozen = tiny_models.make("Llama").requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        measure_pairs(frozen, pair)
    unused = tiny_models.make("Llama")
    unused.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"`extra\.weight` is trained, but its module was not called"):
        measure_pairs(unused, pair)


def test_an_input_that_is_overwritten_is_noticed():
    model = tiny_models.make("Llama")
    mlp = model.model.layers[0].mlp

    def forward(x):
        hidden = mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)
        output = mlp.down_proj(hidden)
        hidden.add_(1)
        return output

    mlp.forward = forward
    with pytest.raises(
        ValueError, match=r"cannot follow `model.layers.0.mlp.down_proj`: its input is overwritten later"
    ):
        measure_pairs(model, [((1, 2), (3,), (4, 5))])


# --- a folder and a file ---------------------------------------------------------------------------------------------

WORDS = ["<end>", "?", "was", "it", "good", "bad", "great", "awful", "film", "a", "."]
ROWS = [
    {"prompt": "was it good ?", "chosen": " great . a good film", "rejected": " awful . a good film"},
    {"prompt": "was it a film ?", "chosen": " it was", "rejected": " it was bad"},
]
TEMPLATE = "{% for m in messages %}{{ m['role'] + ' ' + m['content'] + ' <end> ' }}{% endfor %}"


def tokenizer_of(template=None):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    found = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
    found.chat_template = template
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = tiny_models.gpt2()
    model.resize_token_embeddings(len(WORDS))
    model.save_pretrained(path)
    tokenizer_of().save_pretrained(path)
    return path


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def ids(text):
    return [WORDS.index(word) for word in text.split()]


def test_prompt_tokens_are_masked_and_the_end_appended(tmp_path):
    path = write(tmp_path / "pairs.jsonl", ROWS)
    wanted = [TokenPair(*(ids(row[key]) for key in ("prompt", "chosen", "rejected"))) for row in ROWS]
    assert read_pairs(path, tokenizer_of(), longest=None, eos=False) == wanted
    ended = [pair._replace(chosen=[*pair.chosen, 0], rejected=[*pair.rejected, 0]) for pair in wanted]
    assert read_pairs(path, tokenizer_of(), longest=None) == ended
    no_prompt = write(tmp_path / "none.jsonl", [ROWS[0] | {"prompt": ""}])
    assert read_pairs(no_prompt, tokenizer_of(), longest=None)[0].prompt == [0]  # it starts after an end


def test_a_token_that_reaches_into_an_answer_is_the_answers(tmp_path):
    """Both answers begin with a word that is joined to the prompt's last."""
    path = write(tmp_path / "pairs.jsonl", [{"prompt": "was it goo", "chosen": "d great", "rejected": "d awful"}])
    (pair,) = read_pairs(path, tokenizer_of(), longest=None, eos=False)
    assert pair == TokenPair(ids("was it"), ids("good great"), ids("good awful"))


def test_messages_go_through_the_template(tmp_path):
    def says(role, text):
        return {"role": role, "content": text}

    asked, good, bad = says("film", "was it good"), says("a", "great"), says("a", "awful .")
    rows = [
        {"prompt": [asked], "chosen": [good], "rejected": [bad]},
        {"chosen": [asked, good], "rejected": [asked, bad]},
    ]
    both = read_pairs(write(tmp_path / "chat.jsonl", rows), tokenizer_of(TEMPLATE), longest=None)
    wanted = TokenPair(ids("film was it good <end>"), ids("a great <end>"), ids("a awful . <end>"))
    assert both == [wanted] * 2
    with pytest.raises(ValueError, match=r"line 1: .* no chat template"):
        read_pairs(tmp_path / "chat.jsonl", tokenizer_of(), longest=None)


BAD_ROWS = {
    "empty": ({"prompt": "a", "chosen": "", "rejected": " bad"}, "line 2: `chosen` is missing or empty."),
    "blank": ({"prompt": "a", "chosen": " ", "rejected": " bad"}, "line 2: `chosen` has no tokens of its own."),
    "no rejected": ({"prompt": "a", "chosen": " good"}, "line 2: `rejected` is missing or empty."),
    "equal": ({"prompt": "a", "chosen": " good", "rejected": "  good"}, "line 2: both answers have the same tokens"),
    "long": (
        {"prompt": "a " * 61, "chosen": " good film . .", "rejected": " bad film . . ."},
        "line 2: prompt and `rejected` are 65 tokens, but the model takes 64: shorten the pair.",
    ),
    "no text": ({"prompt": "a", "chosen": 1, "rejected": " bad"}, "line 2: `chosen` must be text, or all three lists"),
    "mixed": (
        {"prompt": "a", "chosen": [{"role": "a", "content": "good"}], "rejected": " bad"},
        "line 2: these are messages, and the tokenizer has no chat template for them.",
    ),
    "no object": (3, "line 2: `chosen` is missing or empty."),
}


@pytest.mark.parametrize(("row", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_pairs_are_named_by_their_line(tmp_path, folder, capsys, row, message):
    path = write(tmp_path / "pairs.jsonl", [ROWS[0], row])
    assert cli.main(["diagnose", "--model", str(folder), "--no-eos", str(path)]) == 2
    told = capsys.readouterr()
    assert f"toymodel diagnose: `{path}`, {message}" in told.err
    assert (told.err.count("\n"), told.out) == (1, "")


def test_bad_folders_and_files_give_one_line(tmp_path, folder, capsys, monkeypatch):
    path, empty = write(tmp_path / "pairs.jsonl", ROWS), tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "broken.jsonl").write_text("{\n")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    (tmp_path / "none.jsonl").write_text("\n")
    calls = {
        (str(path), str(path)): "a model must be a folder",
        (str(empty), str(path)): f"cannot read a model and its tokenizer from `{empty}`",
        (str(broken), str(path)): f"cannot read a model and its tokenizer from `{broken}`",
        (str(folder), str(tmp_path / "there_is_none.jsonl")): "cannot read `",
        (str(folder), str(tmp_path / "broken.jsonl")): "line 1: it must be a JSON object",
        (str(folder), str(tmp_path / "none.jsonl")): "holds no pairs",
        (str(folder), str(path), "--out", str(tmp_path / "no" / "g.npz")): "--out must be the name of an .npz file",
    }
    for (model, file, *options), message in calls.items():
        assert cli.main(["diagnose", "--model", model, file, *options]) == 2
        told = capsys.readouterr()
        assert message in told.err
        assert (told.err.count("\n"), told.out) == (1, "")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"needs the package `transformers`: pip install 'toymodel\[torch\]'"):
        load_model(folder)


def test_diagnose_of_a_model_is_that_of_its_gradients(tmp_path, folder, capsys):
    path, out = write(tmp_path / "pairs.jsonl", ROWS), tmp_path / "gram.npz"
    assert cli.main(["diagnose", "--model", str(folder), str(path), "--json", "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert cli.main(["diagnose", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    model, tokenizer = load_model(folder)
    pairs = read_pairs(path, tokenizer, longest=64)
    whole, logps = plain(model, pairs)
    for i, (row, entries) in enumerate(zip(found["pairs"], sum(whole.values()).T, strict=True)):
        assert_close([row[entry] for entry in ENTRIES], entries, max(entries), 1e-5)  # in float32
        assert_close([row["chosen_logps"], row["rejected_logps"]], [side[i] for side in logps], 100, 1e-6)
    assert [row["chosen_lengths"] for row in found["pairs"]] == [6, 3]
    assert found["summary"]["layers"].keys() == whole.keys()
    assert not found["losses"]["untold"]
    assert {"rpo_alpha", "pref_ftx"} < found["summary"]["likelihood"].keys()
    assert diagnose(**load(out)).summary["layers"].keys() == whole.keys()


def test_the_gguf_file_of_the_pretrained_model_is_the_same_model_here(tmp_path, capsys):
    try:
        loaded, gguf = pretrained.load(), pretrained.smollm2()
    except ValueError as error:
        pytest.skip(str(error))
    path = write(tmp_path / "pairs.jsonl", ROWS)
    assert cli.main(["diagnose", "--model", str(gguf), str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["pairs"]
    read = answers.read(path, lambda text: loaded.tokenizer.encode(text).ids, loaded.end).pairs
    ids = [[getattr(pair, name) for pair in read] for name in TokenPair._fields]
    pairs = PreferencePairs.from_lists(*ids, vocab_size=loaded.model.vocab_size)
    gram = pair_gram(loaded.model, jax.tree.map(jnp.asarray, loaded.params), pairs)
    for i, row in enumerate(found):
        entries = [float(entry[i]) for entry in gram]
        assert_close([row[entry] for entry in ENTRIES], entries, max(entries), 1e-4)  # in float32


def test_a_peft_adapter_is_diagnosed_by_itself(tmp_path, folder, capsys):
    adapted = tiny_models.lora(load_model(folder)[0], target_modules=["c_attn"], fan_in_fan_out=True)
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer_of().save_pretrained(tmp_path / "adapter")
    path = write(tmp_path / "pairs.jsonl", ROWS)
    assert cli.main(["diagnose", "--model", str(tmp_path / "adapter"), str(path), "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["summary"]["layers"]
    assert len(layers) == 4
    assert all("lora_" in name for name in layers)


# --- along a run -----------------------------------------------------------------------------------------------------


def test_the_callback_logs_the_same_pairs_along_a_run(tmp_path, capsys):
    from transformers import Trainer, TrainingArguments

    from examples.log_fixed_pairs import LogFixedPairs

    model = tiny_models.make("GPT-2").float()
    pairs = tiny_models.draw_pairs(np.random.default_rng(0), 3, 6)
    start = pair_logps(model, pairs)
    rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)}] * 8
    arguments = TrainingArguments(
        **{"output_dir": str(tmp_path / "run"), "max_steps": 4, "logging_steps": 2, "eval_strategy": "steps"},
        **{"eval_steps": 2, "learning_rate": 1e-2, "per_device_train_batch_size": 2, "report_to": []},
        **{"save_strategy": "no", "use_cpu": True, "disable_tqdm": True},
    )
    path = tmp_path / "fixed_pairs.csv"
    callback = LogFixedPairs(pairs, path, grams=True)
    Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, callbacks=[callback]).train()
    with path.open(newline="") as file:
        logged = list(csv.DictReader(file))
    assert [(row["step"], row["pair"]) for row in logged] == [(str(s), str(i)) for s in (0, 2, 4) for i in range(3)]
    values = np.array([[float(row["chosen_logps"]), float(row["rejected_logps"])] for row in logged])
    assert_close(values[:3], start, 10, 1e-6)  # float32
    assert_close(values[-3:], pair_logps(model, pairs), 10, 1e-6)
    assert abs(values[-3:] - start).max() > 0.1
    capsys.readouterr()
    for name in (path, tmp_path / "fixed_pairs-4.npz"):
        assert cli.main(["diagnose", str(name)]) == 0
    now = measure_pairs(model, pairs)
    with np.load(tmp_path / "fixed_pairs-4.npz") as file:
        assert_close(file["inner"], sum(now["inner"].values()), file["chosen_sq"] + file["rejected_sq"], 1e-5)
