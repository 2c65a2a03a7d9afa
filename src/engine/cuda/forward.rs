//! What a forward pass does on the device, as a list of work: no memory is taken here and nothing is run.
//!
//! The arena of a part of `rows` holds, in the model's numbers:
//!
//! ```text
//! hidden   rows x hidden            the residual stream
//! update   rows x hidden            a product before it is added
//! qkv      rows x 3 hidden          |  both are dead when the feed-forward block
//! context  rows x hidden            |  begins, whose wide rows take their place
//! wide     rows x intermediate      |
//! ```

use super::{
    driver::{Address, Driver, Epilogue, Product, ProductShape, Work},
    kernels::{self, KernelShape},
    plan::{ALIGNMENT, InputLayout},
    weights::DeviceWeights,
};
use crate::engine::spec::Activation;

/// Places in the arena of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arena {
    pub hidden: Address,
    pub update: Address,
    pub qkv: Address,
    pub context: Address,
    pub wide: Address,
    pub bytes: usize,
}

impl Arena {
    pub fn new(base: Address, shape: &KernelShape, rows: usize) -> Self {
        let size = |width: usize| (2 * rows * width).next_multiple_of(ALIGNMENT);
        let narrow = size(shape.hidden);
        let (qkv, context) = (2 * narrow, 2 * narrow + size(3 * shape.hidden));
        Self {
            hidden: base,
            update: base.plus(narrow),
            qkv: base.plus(qkv),
            context: base.plus(context),
            wide: base.plus(qkv),
            bytes: (context + narrow).max(qkv + size(shape.intermediate)),
        }
    }
}

/// The products of one layer and of heads with two layers.
pub fn product_shapes(shape: &KernelShape, activation: Activation) -> [ProductShape; 4] {
    let of = |inputs, outputs, epilogue| ProductShape { inputs, outputs, epilogue };
    let (hidden, intermediate) = (shape.hidden, shape.intermediate);
    let up = match activation {
        Activation::Gelu => Epilogue::Nothing,
        Activation::GeluTanh => Epilogue::BiasGeluTanh,
        Activation::Relu => Epilogue::BiasRelu,
    };
    [
        of(hidden, 3 * hidden, Epilogue::Bias),
        of(hidden, hidden, Epilogue::Nothing),
        of(hidden, intermediate, up),
        of(intermediate, hidden, Epilogue::Nothing),
    ]
}

/// From inputs at `inputs` to hidden states in the arena.
pub fn forward<D: Driver>(
    shape: &KernelShape,
    activation: Activation,
    weights: &DeviceWeights<D>,
    inputs: Address,
    layout: InputLayout,
    arena: &Arena,
) -> Vec<Work> {
    let rows = layout.rows as u32;
    let [qkv, attention_out, up, down] = product_shapes(shape, activation);
    let product = |shape, x, weight, bias, out| {
        Work::Product(Product { x, weight, bias, out, rows: layout.rows, shape })
    };
    let none = Address::NULL;
    let (hidden, update) = (arena.hidden, arena.update);
    let positions = inputs.plus(layout.positions_at());
    let tiles = inputs.plus(layout.tiles_at());

    let mut work = Vec::with_capacity(1 + 8 * weights.layers.len());
    work.push(Work::Launch(kernels::embed_norm(
        inputs,
        positions,
        weights.words,
        weights.places,
        weights.norm,
        hidden,
        rows,
    )));
    for layer in &weights.layers {
        work.push(product(qkv, hidden, layer.qkv, layer.qkv_bias, arena.qkv));
        work.push(Work::Launch(kernels::attention(
            arena.qkv,
            tiles,
            layout.tiles as u32,
            arena.context,
            shape,
        )));
        work.push(product(attention_out, arena.context, layer.attention_out, none, update));
        work.push(Work::Launch(kernels::residual_norm(
            update,
            layer.attention_bias,
            hidden,
            layer.attention_norm,
            rows,
        )));
        work.push(product(up, hidden, layer.up, layer.up_bias, arena.wide));
        if activation == Activation::Gelu {
            work.push(Work::Launch(kernels::bias_gelu(arena.wide, layer.up_bias, rows, shape)));
        }
        work.push(product(down, arena.wide, layer.down, none, update));
        work.push(Work::Launch(kernels::residual_norm(update, layer.down_bias, hidden, layer.norm, rows)));
    }
    work
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cuda::Numbers;

    #[test]
    fn what_lives_at_once_does_not_overlap() {
        for (hidden, intermediate, head_width) in [(384, 1536, 32), (768, 3072, 64), (128, 1024, 16)] {
            for rows in [16, 80, 16_384] {
                let heads = hidden / head_width;
                let shape = KernelShape { numbers: Numbers::Bf16, hidden, intermediate, heads, head_width };
                let base = Address(4096);
                let a = Arena::new(base, &shape, rows);
                let narrow = 2 * rows * hidden;
                for alive in [
                    vec![(a.hidden, narrow), (a.update, narrow), (a.qkv, 3 * narrow), (a.context, narrow)],
                    vec![(a.hidden, narrow), (a.update, narrow), (a.wide, 2 * rows * intermediate)],
                ] {
                    for (i, (x, bytes)) in alive.iter().enumerate() {
                        assert!(
                            x.0 % ALIGNMENT as u64 == 0 && x.0 + *bytes as u64 <= base.0 + a.bytes as u64
                        );
                        for (y, others) in &alive[i + 1..] {
                            assert!(x.0 + *bytes as u64 <= y.0 || y.0 + *others as u64 <= x.0);
                        }
                    }
                }
            }
        }
    }
}
