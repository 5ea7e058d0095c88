//! Every case of the index.

use super::case::{Case, Listed, Samples, Setting};
use super::{Findings, Golden, arrangement, conclude, parity, recognizer_config};

#[test]
fn golden_cases() {
    let golden = Golden::open();
    let listed: Vec<Listed> = golden.json("index.json");
    let samples: Samples = golden.json("samples.json");
    let mut problems = Vec::new();
    for Listed { name } in &listed {
        let case: Case = golden.json(&format!("cases/{name}/case.json"));
        let window = golden.encoder("encoder").window();
        let setting = Setting {
            golden: &golden,
            config: recognizer_config(
                &case.config,
                arrangement(&case.arch, &case.format, &case.loss_masking, window),
            ),
            parity: parity(&case.variant),
            case: &case,
        };
        let mut findings = Findings::default();
        setting.train(
            name,
            &golden.split(&samples.train, setting.config.annotation_format),
            &mut findings,
        );
        if let Some(evaluation) = &case.eval {
            let split = golden.split(&samples.eval, setting.config.annotation_format);
            setting.evaluate(name, evaluation, &split, &mut findings);
        }
        findings.finish(name, &mut problems);
    }
    conclude("cases", listed.len(), &problems);
}
