//! Start values of a new model. They matter much: with PyTorch's own defaults the reference learns a fraction as well.

use super::weights::HostTensor;
use crate::recognizer::RecognizerConfig;
use crate::rng::Rng;

/// The standard deviation of random start values, BERT's.
const SPREAD: f64 = 0.02;

/// Names and shapes of everything outside the encoders: the heads, the width embedding, the scales.
pub(super) fn head_shapes(
    config: &RecognizerConfig,
    token_width: usize,
    type_width: usize,
) -> Vec<(String, Vec<usize>)> {
    let (d, w) = (config.linear_hidden_size, config.span_width_embedding_size);
    let mut shapes = Vec::new();
    for (name, inputs) in [
        ("type_linear", type_width),
        ("token_start_linear", token_width),
        ("token_end_linear", token_width),
        ("token_span_linear", 2 * d + w),
    ] {
        for (layer, inputs) in [(0, inputs), (3, d)] {
            shapes.push((format!("{name}.{layer}.weight"), vec![d, inputs]));
            shapes.push((format!("{name}.{layer}.bias"), vec![d]));
        }
    }
    shapes.push(("width_embedding.weight".to_owned(), vec![config.max_span_length + 1, w]));
    for kind in ["start", "end", "span"] {
        shapes.push((format!("{kind}_logit_scale"), Vec::new()));
    }
    shapes
}

/// New heads: linear layers N(0, 0.02) with bias 0, the width embedding likewise with row 0 zero, scales ln(1 / temperature).
/// `token_width` and `type_width` are the encoders' H; a cross-encoder has one for both.
pub fn new_heads(config: &RecognizerConfig, token_width: usize, type_width: usize, seed: u64) -> Vec<HostTensor> {
    head_shapes(config, token_width, type_width)
        .into_iter()
        .map(|(name, shape)| {
            let mut data = match shape[..] {
                [] => vec![(1.0 / config.init_temperature).ln() as f32],
                [length] => vec![0.0; length],
                _ => normal(seed, &name, shape.iter().product()),
            };
            if name == "width_embedding.weight" {
                data[..shape[1]].fill(0.0);
            }
            HostTensor { name, shape, data }
        })
        .collect()
}

fn normal(seed: u64, name: &str, length: usize) -> Vec<f32> {
    let rng = Rng::new(seed, &format!("start values of {name}"));
    (0..length as u64)
        .map(|position| (rng.normal(position) * SPREAD) as f32)
        .collect()
}

/// Gives the tokens `ids`, new in the vocabulary, rows in an embedding table of `known` used rows: the mean of the known rows plus a
/// little noise, as `transformers` starts them. The table grows if it has to; further spare rows are left alone.
pub fn add_token_rows(table: &mut HostTensor, known: usize, ids: &[u32], seed: u64) {
    let &[rows, width] = &table.shape[..] else { return };
    let known = known.min(rows).max(1);
    let moment = |power: i32| -> Vec<f64> {
        let mut sums = vec![0f64; width];
        for row in table.data.chunks(width).take(known) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += f64::from(value).powi(power);
            }
        }
        sums.iter_mut().for_each(|sum| *sum /= known as f64);
        sums
    };
    let (mean, square) = (moment(1), moment(2));
    let needed = ids.iter().map(|&id| id as usize + 1).max().unwrap_or(0).max(rows);
    table.data.resize(needed * width, 0.0);
    table.shape[0] = needed;
    let rng = Rng::new(seed, "new token rows");
    for &id in ids {
        let first = id as usize * width;
        for column in 0..width {
            // `transformers` scales the rows' covariance by 1e-9.
            let deviation = ((square[column] - mean[column].powi(2)).max(0.0) * 1e-9).sqrt();
            let noise = rng.step(u64::from(id)).normal(column as u64);
            table.data[first + column] = (mean[column] + deviation * noise) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_start_as_the_reference_says() {
        let config = RecognizerConfig {
            linear_hidden_size: 64,
            ..RecognizerConfig::default()
        };
        let heads = new_heads(&config, 48, 40, 7);
        let get = |name: &str| heads.iter().find(|tensor| tensor.name == name).expect(name);
        let weight = &get("token_span_linear.0.weight").data;
        let mean = weight.iter().sum::<f32>() / weight.len() as f32;
        let spread = (weight.iter().map(|w| w * w).sum::<f32>() / weight.len() as f32).sqrt();
        assert!(mean.abs() < 1e-3 && (spread - 0.02).abs() < 1e-3, "{mean} {spread}");
        assert!(get("token_span_linear.0.bias").data.iter().all(|&b| b == 0.0));
        assert_eq!(get("type_linear.0.weight").shape, [64, 40]);
        assert_eq!(get("token_end_linear.0.weight").shape, [64, 48]);
        let widths = get("width_embedding.weight");
        assert_eq!(widths.shape, [31, 128]);
        assert!(widths.data[..128].iter().all(|&w| w == 0.0) && widths.data[128..].iter().all(|&w| w != 0.0));
        assert!((get("end_logit_scale").data[0] - (1f32 / 0.03).ln()).abs() < 1e-6);
        assert_ne!(get("type_linear.3.weight").data, get("token_end_linear.3.weight").data);
        assert_eq!(new_heads(&config, 48, 40, 7), heads);
    }

    #[test]
    fn new_tokens_start_near_the_mean_of_the_known_rows() {
        let mut table = HostTensor {
            name: "word_embeddings.weight".to_owned(),
            shape: vec![3, 2],
            data: vec![1.0, 10.0, 3.0, 20.0, 99.0, 99.0],
        };
        add_token_rows(&mut table, 2, &[2, 3], 1);
        assert_eq!(table.shape, [4, 2]);
        assert_eq!(table.data[..4], [1.0, 10.0, 3.0, 20.0]);
        for row in table.data.chunks(2).skip(2) {
            assert!((row[0] - 2.0).abs() < 1e-3 && (row[1] - 15.0).abs() < 1e-3, "{row:?}");
        }
        assert_ne!(table.data[4..6], table.data[6..8]);
    }
}
