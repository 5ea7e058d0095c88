//! Which sentences and which types make up the next batch: a function of the seed and the batch's number.

use nerpipe_engine::StageError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rng::Rng;
use crate::tokens::Split;

/// Which types a batch is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchTypes {
    /// Those of its own golds.
    Own,
    /// All of the split.
    All,
}

/// The order of a batch's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TypeOrder {
    /// Another random one for each batch.
    Shuffled,
    /// By name.
    Sorted,
}

/// How batches are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Sentences in a batch.
    pub size: usize,
    /// Which types it is asked for.
    pub types: BatchTypes,
    /// In which order.
    pub order: TypeOrder,
    /// Steers both orders.
    pub seed: u64,
}

/// The endless sequence of training batches: the split in a new random order each epoch, cut into batches. Batches without any gold are skipped and counted.
pub struct Batches<'a> {
    split: &'a Split,
    draw: Draw,
    order_rng: Rng,
    types_rng: Rng,
    epoch: u64,
    order: Vec<u32>,
    next: usize,
    used_in_epoch: bool,
    drawn: u64,
    skipped: u64,
}

/// How far a sequence of batches is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    epoch: u64,
    next: usize,
    used_in_epoch: bool,
    drawn: u64,
    skipped: u64,
}

/// One batch: numbers of sentences in the split, and of types in the split's label table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRows {
    /// The sentences.
    pub sentences: Vec<usize>,
    /// The types, in the order of the model's classes.
    pub types: Vec<u32>,
}

impl<'a> Batches<'a> {
    /// The batches of `split`. The last batch of an epoch may be smaller.
    pub fn new(split: &'a Split, draw: Draw) -> Self {
        Self {
            split,
            draw,
            order_rng: Rng::new(draw.seed, "order of sentences"),
            types_rng: Rng::new(draw.seed, "order of types"),
            epoch: 0,
            order: Vec::new(),
            next: 0,
            used_in_epoch: true,
            drawn: 0,
            skipped: 0,
        }
    }

    /// How far it is.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            next: self.next,
            used_in_epoch: self.used_in_epoch,
            drawn: self.drawn,
            skipped: self.skipped,
        }
    }

    /// Goes on from a position of the same sequence.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        if let Some(epoch) = position.epoch.checked_sub(1) {
            self.shuffle(epoch);
        }
        Self {
            epoch: position.epoch,
            next: position.next,
            used_in_epoch: position.used_in_epoch,
            drawn: position.drawn,
            skipped: position.skipped,
            ..self
        }
    }

    /// How many batches were skipped so far because they had no gold.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The next batch.
    ///
    /// # Errors
    /// If a whole epoch has no gold: the training would go on for ever without learning anything.
    pub fn next_batch(&mut self) -> Result<BatchRows, StageError> {
        loop {
            if self.next >= self.order.len() {
                self.begin_epoch()?;
            }
            let end = (self.next + self.draw.size).min(self.order.len());
            let sentences: Vec<usize> = self.order[self.next..end].iter().map(|&row| row as usize).collect();
            self.next = end;
            let number = self.drawn;
            self.drawn += 1;
            let mut types: Vec<u32> = sentences
                .iter()
                .flat_map(|&row| self.split.sentence(row).golds().map(|gold| gold.label))
                .collect();
            types.sort_unstable();
            types.dedup();
            if types.is_empty() {
                self.skipped += 1;
                continue;
            }
            self.used_in_epoch = true;
            if self.draw.types == BatchTypes::All {
                types = (0..self.split.labels().len() as u32).collect();
            }
            if self.draw.order == TypeOrder::Shuffled {
                self.types_rng.step(number).shuffle(&mut types);
            }
            return Ok(BatchRows { sentences, types });
        }
    }

    fn begin_epoch(&mut self) -> Result<(), StageError> {
        if self.split.is_empty() || !self.used_in_epoch {
            return Err(
                StageError::new("the training split has no entity, so there is nothing to learn from")
                    .help("check that the corpus has annotations of the format that `annotation_format` names"),
            );
        }
        self.used_in_epoch = false;
        self.shuffle(self.epoch);
        self.epoch += 1;
        self.next = 0;
        Ok(())
    }

    fn shuffle(&mut self, epoch: u64) {
        self.order = (0..self.split.len() as u32).collect();
        self.order_rng.step(epoch).shuffle(&mut self.order);
    }
}
