//! A training that is stopped, or whose process dies, goes on and ends with the same bytes as one that was left alone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nerpipe_engine::testing::{Bench, Made};
use nerpipe_stages::train::Train;
use serde_json::{Value, json};

use crate::training::{prepared, settings};

/// A bench that is ready to train.
fn bench() -> Bench {
    let (bench, tokens, encoder) = prepared();
    bench
        .input("tokens", &tokens)
        .input("token_encoder", &encoder)
        .input("type_encoder", &encoder)
}

fn digests(made: &Made) -> Vec<(String, String)> {
    let files = made.artifact.files.iter();
    files.map(|file| (file.name.clone(), file.digest.to_string())).collect()
}

/// Trains on a new bench, and stops the training again and again; how often it went on, and what came out.
fn with_stops(settings: &Value) -> (usize, Made) {
    let bench = bench();
    let cancel = bench.cancel_flag();
    let mut stops = 0;
    loop {
        cancel.store(false, Ordering::SeqCst);
        let flag = bench.cancel_flag();
        // Longer each time, so that it comes to an end even where the beginning alone takes long.
        let pause = Duration::from_millis(5 * (stops as u64 + 1));
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(pause);
            flag.store(true, Ordering::SeqCst);
        });
        let trained = bench.run(&Train, settings.clone());
        stopper.join().expect("the stopper ends");
        match trained {
            Ok(made) => return (stops, made),
            Err(error) if error.is_cancelled() => stops += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_training_that_is_stopped_again_and_again_gives_the_same_bytes() {
    for (architecture, loss, more) in [
        (
            "bi_encoder",
            "contrastive",
            json!({"eval_steps": 7, "gradient_accumulation_steps": 2, "max_seq_length": 8}),
        ),
        (
            "cross_encoder",
            "bce",
            json!({"save_steps": 3, "early_stopping_patience": 3, "eval_steps": 5}),
        ),
    ] {
        let mut settings = settings(architecture, loss, more);
        settings["max_steps"] = json!(60);
        settings["dropout"] = json!(0.1);
        let whole = bench().run(&Train, settings.clone()).expect("trained");
        let (stops, made) = with_stops(&settings);
        println!("{architecture} with {loss}: went on {stops} times");
        assert!(stops >= 2, "it was stopped {stops} times");
        assert_eq!(digests(&made), digests(&whole));
        assert_eq!(made.notes, whole.notes);
        let goes_on = made
            .messages
            .iter()
            .any(|message| format!("{message:?}").contains("goes on after step"));
        assert!(goes_on, "{:?}", made.messages);
    }
}

#[test]
fn how_often_the_state_is_saved_changes_no_byte() {
    let train = |save_steps: Value| {
        let more = json!({"max_steps": 10, "save_steps": save_steps});
        digests(
            &bench()
                .run(&Train, settings("bi_encoder", "bce", more))
                .expect("trained"),
        )
    };
    assert_eq!(train(json!(1)), train(json!(null)));
}

#[test]
fn a_state_that_was_torn_is_begun_again() {
    let short = json!({"max_steps": 30, "save_steps": 1, "eval_steps": 10});
    let settings = settings("bi_encoder", "bce", short);
    let whole = bench().run(&Train, settings.clone()).expect("trained");
    let bench = bench();
    let cancel = bench.cancel_flag();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(150));
        cancel.store(true, Ordering::SeqCst);
    });
    let stopped = bench.run(&Train, settings.clone());
    stopper.join().expect("the stopper ends");
    if stopped.is_err() {
        let unfinished = bench.project().with_file_name("unfinished");
        let folder = std::fs::read_dir(unfinished)
            .expect("a folder")
            .flatten()
            .next()
            .expect("one training");
        let state = folder.path().join("state.safetensors");
        if let Ok(bytes) = std::fs::read(&state) {
            std::fs::write(&state, &bytes[..bytes.len() / 2]).expect("half a state");
        }
    }
    bench.cancel_flag().store(false, Ordering::SeqCst);
    assert_eq!(digests(&bench.run(&Train, settings).expect("trained")), digests(&whole));
}

#[test]
fn a_loss_that_is_no_number_says_what_led_to_it() {
    let more = json!({"learning_rate": 1e18, "warmup_steps": 2, "max_grad_norm": 0, "max_steps": 50});
    let error = bench()
        .run(&Train, settings("bi_encoder", "bce", more))
        .expect_err("it diverges");
    let message = &error.message;
    for part in [
        "training diverged at step ",
        ": the loss is ",
        "the learning rate ",
        "the losses before were ",
        " at step 0",
        "sentences of the batch: line-",
    ] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    assert!(error.help.is_some_and(|help| help.contains("learning_rate")));
}
