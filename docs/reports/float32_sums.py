"""XLA for CPUs gives wrong float32 numbers, without a word: for JAX's issue tracker. Needs nothing but jax.

The formula is what the backward pass of a normalisation computes when many cotangents meet one input (`jax.vmap` of a
`jax.vjp`). Compiled by jax 0.10.2, all beyond the first 2^15 numbers of the result is wrong, by about its own size. It
is right in float64; not compiled; up to 2^15 numbers; with x repeated to the shape of c before; and with
XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type= (the sum and its neighbours become one "ynn_fusion"). The setting of
the fusion emitters and the optimisation level do not matter. jax 0.11.2 is right, on a CPU and on a GPU (H200).
"""

import jax
import jax.numpy as jnp


def formula(x: jax.Array, c: jax.Array) -> jax.Array:
    """Σ_k x_k c_k · 2x + c · Σ_k x_k², the derivative of x · Σ_k x_k² along c."""
    return (x * c).sum(-1, keepdims=True) * (2 * x) + c * (x * x).sum(-1, keepdims=True)


def errors(rows: int) -> jax.Array:
    """The largest difference that compiling makes in each of so many rows of 1024 numbers, in parts of the largest."""
    x = jax.random.normal(jax.random.key(0), (2, 512), jnp.float32)
    c = jax.random.normal(jax.random.key(1), (rows, 2, 512), jnp.float32)
    expected, got = formula(x, c), jax.jit(formula)(x, c)
    return abs(got - expected).max((1, 2)) / abs(expected).max()


if __name__ == "__main__":
    print(f"jax {jax.__version__} on {jax.default_backend()}: expected 1e-7, got")
    for rows in (32, 33, 64):
        print(f"{rows * 1024:6} numbers: {errors(rows)[:32].max():.0e} in the first 32 rows", end="")
        print(f", {errors(rows)[32:].max():.0e} in the others" if rows > 32 else "")
