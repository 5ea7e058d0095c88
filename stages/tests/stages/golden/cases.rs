//! Every case of the index.

use super::case::{Case, Listed, Samples, Setting};
use super::{Findings, Golden, STOCK, arrangement, conclude, parity, recognizer_config, with_stock_operations};

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

/// The same with stock operations, in a process of its own: the choice is made once for a process.
#[test]
fn golden_cases_with_stock_operations() {
    if with_stock_operations() {
        println!("golden: all tests of this process use stock operations");
        return;
    }
    let program = std::env::current_exe().expect("this test's program");
    let mut command = std::process::Command::new(program);
    command
        .args(["--exact", "golden::cases::golden_cases", "--nocapture"])
        .env(STOCK, "1");
    let output = command.output().expect("this test's program starts");
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the cases fail with stock operations");
    assert!(told.contains("cases ran"), "no case ran");
}
