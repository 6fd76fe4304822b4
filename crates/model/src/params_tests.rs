use super::*;
use crate::testing::tiny_config;
use checkpoint::write_tensors;
use safetensors::tensor::TensorView;

type Stored = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Every weight of the tiny model, f32, each filled with its own number; no head, for it is tied.
fn stored() -> Stored {
    let entry = |(number, (name, shape)): (usize, (String, Vec<i64>))| {
        let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
        let bytes = (number as f32).to_le_bytes().repeat(shape.iter().product());
        (name, (Dtype::F32, shape, bytes))
    };
    expected(&tiny_config()).into_iter().enumerate().map(entry).collect()
}

fn load(stored: &Stored, kind: Kind) -> Result<Params, LoadError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let views = stored.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).expect("a whole tensor"))
    });
    write_tensors(&folder.path().join("model.safetensors"), views.collect()).expect("writable");
    let files = WeightFiles::open(folder.path()).expect("readable");
    Params::load(&tiny_config(), &files, kind, Device::Cpu)
}

fn refusal(stored: &Stored) -> String {
    load(stored, Kind::Float).expect_err("refused").to_string()
}

#[test]
fn every_tensor_of_a_checkpoint_is_consumed() {
    let stored = stored();
    let params = load(&stored, Kind::BFloat16).expect("fits");
    assert!(params.names().eq(stored.keys().map(String::as_str)));
    for (number, (_, tensor)) in params.iter().enumerate() {
        assert_eq!(tensor.kind(), Kind::BFloat16);
        assert_eq!(tensor.double_value(&vec![0; tensor.dim()]), number as f64);
    }
    let values: usize = stored.values().map(|(_, shape, _)| shape.iter().product::<usize>()).sum();
    assert_eq!(params.values(), values);
}

#[test]
fn the_naming_of_newer_files_is_the_same_model() {
    let renamed = stored()
        .into_iter()
        .map(|(name, entry)| match name.strip_prefix("model.") {
            Some(rest) => (format!("model.language_model.{rest}"), entry),
            None => (format!("model.{name}"), entry),
        })
        .collect();
    assert!(load(&renamed, Kind::Float).expect("fits").names().eq(stored().keys().map(String::as_str)));
}

#[test]
fn all_that_is_wrong_is_named_at_once() {
    let mut wrong = stored();
    let entry = wrong.remove("model.norm.weight").expect("there");
    wrong.insert("model.layers.9.mlp.up_proj.weight".to_owned(), entry);
    wrong.insert("visual.merger.ln_q.weight".to_owned(), (Dtype::F32, vec![4, 4], vec![0; 64]));
    wrong.insert("visual.merger.mlp.2.bias".to_owned(), (Dtype::I8, vec![32], vec![0; 32]));
    let message = refusal(&wrong);
    for part in [
        "missing model.norm.weight",
        "unexpected model.layers.9.mlp.up_proj.weight",
        "visual.merger.ln_q.weight has shape [4, 4], expected [16]",
        "visual.merger.mlp.2.bias is I8, expected F32, F16 or BF16",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn one_weight_under_two_names_is_refused() {
    let mut twice = stored();
    let entry = twice["model.norm.weight"].clone();
    twice.insert("model.language_model.norm.weight".to_owned(), entry);
    assert!(refusal(&twice).contains("are the same weight"));
}

#[test]
fn a_tied_models_own_head_must_equal_its_embedding() {
    let mut spare = stored();
    let embedding = spare[EMBEDDING].clone();
    spare.insert(HEAD.to_owned(), embedding);
    let params = load(&spare, Kind::Float).expect("equal");
    assert!(params.find(HEAD).is_none());
    spare.get_mut(HEAD).expect("there").2[3] ^= 1;
    assert!(refusal(&spare).contains("lm_head.weight differs from model.embed_tokens.weight"));
}

#[test]
fn halves_of_both_kinds_keep_their_values() {
    let mut halves = stored();
    for (name, dtype, bits) in
        [("model.norm.weight", Dtype::F16, 0x3e00_u16), ("visual.merger.ln_q.weight", Dtype::BF16, 0x3fc0)]
    {
        let entry = halves.get_mut(name).expect("there");
        *entry = (dtype, entry.1.clone(), bits.to_le_bytes().repeat(entry.1[0]));
    }
    let params = load(&halves, Kind::Float).expect("fits");
    for name in ["model.norm.weight", "visual.merger.ln_q.weight"] {
        assert_eq!(params.get(name).double_value(&[0]), 1.5, "{name}");
    }
}

/// The same numbers in every type that files have, whatever type they are loaded as.
#[test]
fn f32_f16_and_bf16_files_give_the_same_numbers() {
    let kept = |dtype: Dtype, value: f32| match dtype {
        Dtype::F32 => value.to_le_bytes().to_vec(),
        Dtype::BF16 => ((value.to_bits() >> 16) as u16).to_le_bytes().to_vec(),
        _ => f16_bits(value).to_le_bytes().to_vec(),
    };
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let mut all = stored();
        for (number, (_, entry)) in all.iter_mut().enumerate() {
            let count = entry.1.iter().product();
            *entry = (dtype, entry.1.clone(), kept(dtype, number as f32).repeat(count));
        }
        for kind in [Kind::Float, Kind::BFloat16] {
            let params = load(&all, kind).expect("fits");
            for (number, (name, tensor)) in params.iter().enumerate() {
                let (least, most) = (tensor.min().double_value(&[]), tensor.max().double_value(&[]));
                assert_eq!((least, most, tensor.kind()), (number as f64, number as f64, kind), "{name}");
            }
        }
    }
}

/// Of a whole number below 2048.
fn f16_bits(value: f32) -> u16 {
    if value == 0.0 {
        return 0;
    }
    let exponent = (value.to_bits() >> 23) as i32 - 127 + 15;
    (exponent as u16) << 10 | ((value.to_bits() >> 13) & 0x3ff) as u16
}

#[test]
fn a_tensor_longer_than_a_piece_is_whole() {
    // 18 MB of bf16: many pieces and a rest.
    let bytes: Vec<u8> = (0..9_000_000_u32).flat_map(|i| (0x3f80 + (i % 97) as u16).to_le_bytes()).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.safetensors");
    let view = TensorView::new(Dtype::BF16, vec![3000, 3000], &bytes).expect("a whole tensor");
    write_tensors(&path, BTreeMap::from([("a".to_owned(), view)])).expect("writable");
    let files = WeightFiles::open_file(&path).expect("readable");
    let view = files.tensor("a").expect("there");
    let direct = Tensor::from_data_size(&bytes, &[3000, 3000], Kind::BFloat16);
    let copy = tensor(&view, Kind::Float, Device::Cpu).expect("a copy");
    assert!(copy.equal(&direct.to_kind(Kind::Float)));
    assert!(holds(&direct, &view).expect("comparable"));
    let _ = direct.get(2999).get(2999).fill_(7.0);
    assert!(!holds(&direct, &view).expect("comparable"));
}
