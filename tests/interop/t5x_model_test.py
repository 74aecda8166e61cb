"""HyperTuning in t5x against HyperJAX's own; skipped where t5x is not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import core
from flax import linen as nn
from jax.sharding import Mesh

from hyperjax import adapters, optimizers, trees
from hyperjax.models import forward
from tests import conftest, testing

pytestmark = [pytest.mark.seqio, pytest.mark.slow]
pytest.importorskip("t5x")

from t5x import decoding as t5x_decoding  # noqa: E402  # pyright: ignore[reportMissingImports]: not on the package index
from t5x import partitioning, utils  # noqa: E402  # pyright: ignore[reportMissingImports]

from hyperjax.interop import t5x_layers, t5x_model  # noqa: E402

SPECS = {"prefix": adapters.PrefixSpec(3), "lora": adapters.LoraSpec(2)}
DROPPING = dataclasses.replace(testing.CONFIG, dropout_rate=0.3)
GREEDY = functools.partial(
  t5x_decoding.temperature_sample, temperature=0.0, topk=0
)
RULES = partitioning.standard_logical_axis_rules(
  additional_rules=[("slots", None), ("head_hidden", "model")]
)


@dataclasses.dataclass
class Vocabulary:
  vocab_size: int = testing.CONFIG.vocab_size
  eos_id: int = 1


def make_model(problem, vocabulary=Vocabulary(), **options):  # noqa: B008
  options = {"optimizer_def": None, "decode_fn": GREEDY} | options
  return t5x_model.HyperTuningModel(problem, vocabulary, vocabulary, **options)


def make_problem(spec=SPECS["lora"], **options):
  return testing.hypertuning(spec, DROPPING, z_loss=1e-3, **options)


def draw_params(problem):
  """Random parameters, so that a LoRA's `up` is not zero; ours and t5x's."""
  params, frozen = nn.meta.unbox(
    jax.eval_shape(problem.init, jax.random.key(0))
  )
  params, frozen = testing.draw((params, frozen), scale=0.15)
  return params, frozen, t5x_layers.unstack(params | frozen)


def make_batch(contexts=4):
  batch = testing.batch(contexts)
  return batch, {
    field.name: jnp.asarray(getattr(batch, field.name))
    for field in dataclasses.fields(batch)
  }


def use_mesh(monkeypatch, data, model):
  """Lets t5x have this mesh; it takes simulated devices for one copy's."""
  devices = np.array(jax.devices()[: data * model]).reshape(data, model)
  monkeypatch.setattr(
    partitioning, "default_mesh", lambda *_: Mesh(devices, ("data", "model"))
  )


def make_partitioner():
  return partitioning.PjitPartitioner(
    num_partitions=1, logical_axis_rules=RULES
  )


def test_fresh_parameters_are_ours_for_the_same_key():
  problem = make_problem()
  key = jax.random.PRNGKey(3)
  model = make_model(problem)
  variables = jax.jit(lambda key: model.get_initial_variables(key, {}))(key)
  params, frozen = nn.meta.unbox(jax.jit(problem.init)(key))
  wanted = t5x_layers.unstack(params | frozen)
  jax.tree.map(
    np.testing.assert_array_equal, dict(variables["params"].unfreeze()), wanted
  )


@pytest.mark.parametrize(
  ("name", "train_backbone"), [("prefix", False), ("lora", True)]
)
def test_loss_and_gradients_are_ours_dropout_included(name, train_backbone):
  problem = make_problem(SPECS[name], train_backbone=train_backbone)
  params, frozen, both = draw_params(problem)
  ours, theirs = make_batch()
  key = jax.random.PRNGKey(5)
  model = make_model(problem, loss_normalizing_factor="NUM_REAL_TARGET_TOKENS")

  def own_loss(params):
    loss, weight, _ = problem.loss(params, frozen, ours, key)
    return loss / weight

  wanted, wanted_grads = jax.jit(jax.value_and_grad(own_loss))(params)
  grad = jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))
  (loss, metrics), grads = grad(both, theirs, key)
  assert float(loss) == pytest.approx(float(wanted), rel=1e-6)
  assert "accuracy" in metrics
  wanted_grads = trees.flatten(t5x_layers.unstack(wanted_grads))
  for path, grad in trees.flatten(grads).items():
    if path not in wanted_grads:
      assert path.startswith("backbone/") and not np.any(grad), path
      continue
    np.testing.assert_allclose(
      grad, wanted_grads[path], rtol=1e-4, atol=1e-6, err_msg=path
    )
  assert train_backbone == any(path.startswith("b") for path in wanted_grads)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_greedy_predictions_are_ours_without_ids_that_the_tokenizer_lacks(spec):
  problem = make_problem(spec)
  params, frozen, both = draw_params(problem)
  ours, theirs = make_batch()
  model = make_model(problem, Vocabulary(vocab_size=20))
  found, aux = jax.jit(model.predict_batch_with_aux)(both, theirs)
  decode = jax.jit(
    functools.partial(
      forward.decode, problem.backbone, max_length=5, num_tokens=20
    )
  )
  wanted = decode(testing.setting(problem, params, frozen, ours))
  np.testing.assert_array_equal(found, wanted.tokens)
  assert np.asarray(found).max() < 20 and aux["scores"].shape == (4,)
  plain = decode(testing.alone(params, frozen, ours))
  assert np.any(plain.tokens != wanted.tokens)  # so the adapters count


def test_scores_are_our_log_likelihoods():
  problem = make_problem()
  params, frozen, both = draw_params(problem)
  ours, theirs = make_batch()
  model = make_model(problem)
  given = testing.setting(problem, params, frozen, ours)
  targets = ours.decoder_target_tokens
  wanted = forward.log_likelihood(problem.backbone, given, targets)
  found = jax.jit(model.score_batch)(both, theirs)
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
  again, kept = model.score_batch(both, theirs, return_intermediates=True)
  np.testing.assert_allclose(again, found, rtol=1e-5)
  assert kept["decoder"]["token_scores"][0].shape == (4, 5)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_each_beam_is_decoded_under_the_adapters_of_its_own_example(spec):
  """So its score is that of its tokens, where length is not rewarded."""
  problem = make_problem(spec)
  _, _, both = draw_params(problem)
  _, batch = make_batch()
  search = functools.partial(t5x_decoding.beam_search, alpha=0.0)
  model = make_model(problem, decode_fn=search)
  predict = functools.partial(
    model.predict_batch_with_aux, num_decodes=3, return_all_decodes=True
  )
  beams, aux = jax.jit(predict)(both, batch)
  score = jax.jit(model.score_batch)
  assert beams.shape == (4, 3, 5)
  for i in range(3):
    tokens = np.asarray(beams[:, i])
    shifted = np.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
    asked = batch | {
      "decoder_input_tokens": jnp.asarray(shifted),
      "decoder_target_tokens": jnp.asarray(tokens),
      "decoder_loss_weights": jnp.asarray(tokens > 0, jnp.float32),
    }
    scores = score(both, asked)
    np.testing.assert_allclose(aux["scores"][:, i], scores, rtol=1e-4)


def test_a_prompt_is_kept_and_continued():
  problem = make_problem()
  _, _, both = draw_params(problem)
  _, batch = make_batch()
  model = make_model(problem)
  free = np.asarray(jax.jit(model.predict_batch)(both, batch))
  prompt = np.zeros((4, 5), np.int32)
  prompt[:, 1] = 2 + (free[:, 0] + 1) % 30  # not what it says by itself
  batch["decoder_input_tokens"] = jnp.asarray(prompt)
  predict = functools.partial(
    model.predict_batch_with_aux, prompt_with_targets=True
  )
  found, _ = jax.jit(predict)(both, batch)
  np.testing.assert_array_equal(found[:, 0], prompt[:, 1])
  assert np.any(np.asarray(found)[:, 1:] > 0)


def test_only_the_hypermodel_is_updated_and_has_moments():
  problem = make_problem(SPECS["prefix"])
  _, _, both = draw_params(problem)
  both = core.freeze(both)  # as t5x has them
  optimizer_def = t5x_model.hypermodel_only(
    optimizers.AdamW(optimizers.Constant(1e-2), weight_decay=0.1)
  )
  optimizer = optimizer_def.create(both)
  moments = trees.flatten(optimizer.state_dict()["state"])
  assert not [name for name in moments if "/backbone/" in name]
  assert [name for name in moments if "/hypermodel/head/" in name]
  grads = jax.tree.map(jnp.ones_like, both)
  updated = trees.flatten(optimizer.apply_gradient(grads).target)
  for path, before in trees.flatten(both).items():
    is_same = np.array_equal(updated[path], before)
    assert is_same == path.startswith("backbone/"), path


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_mesh_of_t5x_splits_the_weights_and_computes_the_same(
  spec, monkeypatch
):
  problem = make_problem(spec)
  _, _, both = draw_params(problem)
  _, batch = make_batch()
  model = make_model(
    problem,
    optimizer_def=t5x_model.hypermodel_only(
      optimizers.AdamW(optimizers.Constant(1e-2))
    ),
  )
  wanted, _ = jax.jit(model.eval_fn)(both, batch)
  use_mesh(monkeypatch, data=4, model=2)
  partitioner = make_partitioner()
  initializer = utils.TrainStateInitializer(
    model.optimizer_def, model.get_initial_variables, {}, partitioner
  )
  axes = initializer.train_state_axes.params
  loss = partitioner.partition(
    lambda params, batch: model.eval_fn(params, batch)[0],
    in_axis_resources=(axes, partitioner.data_partition_spec),
    out_axis_resources=None,
  )
  found = loss(core.freeze(both), batch)
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
  hidden = axes["hypermodel"]["head"]["hidden"]["kernel"]
  assert tuple(hidden) == (None, "model")


def test_one_rule_restores_the_backbone_of_a_public_checkpoint(
  tmp_path, monkeypatch
):
  use_mesh(monkeypatch, 1, 1)
  folder = conftest.MODELS / "t5x_tiny"
  arrays = np.load(folder / "t5_tiny_params.npz")
  config = dataclasses.replace(
    testing.CONFIG,
    vocab_size=128,
    emb_dim=32,
    head_dim=16,
    mlp_dim=64,
    num_decoder_layers=2,
  )
  problem = testing.hypertuning(SPECS["prefix"], config)
  state = _restored(
    make_model(
      problem,
      optimizer_def=t5x_model.hypermodel_only(
        optimizers.AdamW(optimizers.Constant(1e-3))
      ),
    ),
    folder / "t5_tiny_legacy" / "checkpoint_1000",
    [(r"target/backbone/(.*)", r"target/\1"), (r"state/.*", None)],
    tmp_path,
  )
  restored = trees.flatten(state.params["backbone"].unfreeze())
  assert restored.keys() == set(arrays.files)
  for name, value in restored.items():
    np.testing.assert_array_equal(value, arrays[name], err_msg=name)
  fresh = state.params["hypermodel"]["token_embedder"]["embedding"]
  assert not np.array_equal(fresh, arrays["token_embedder/embedding"])
  assert int(state.step) == 0


def _restored(model, checkpoint, assignment_map, model_dir):
  """t5x's train state, as t5x.train makes it from a checkpoint."""
  partitioner = make_partitioner()
  initializer = utils.TrainStateInitializer(
    optimizer_def=model.optimizer_def,
    init_fn=model.get_initial_variables,
    input_shapes={},
    partitioner=partitioner,
  )
  state, _ = utils.create_checkpoint_manager_and_restore(
    initializer,
    partitioner,
    utils.RestoreCheckpointConfig(
      path=str(checkpoint),
      mode="specific",
      dtype="float32",
      assignment_map=assignment_map,
      fallback_to_scratch=True,
    ),
    str(checkpoint),
    jax.random.PRNGKey(0),
    model_dir=str(model_dir),
    use_orbax=True,
  )
  return state
