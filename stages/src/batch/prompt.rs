//! Types → the passes that ask for them.
//!
//! A bi-encoder asks for all types at once. A cross-encoder puts them before the text, `[CLS] [LABEL] type … [SEP] text [SEP]`, and a
//! long list would crowd out the text (the reference loses types and text alike, its defect 7). So the prompt leaves
//! room for the text, and types that do not fit are asked for in further passes over the same sentences. Prompts are put together
//! from ids: separators are the tokenizer's own (18), and nothing in a text can pass for a marker (8).

use super::collate::{Collator, TypeReader};
use super::{EncoderInput, TypeInput};

/// A type's name is cut off after so many subwords in an input of its own, special tokens included.
const LONGEST_NAME: usize = 64;

/// One pass: what precedes the text, and where its types are.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    /// Indices into the caller's label table.
    pub(super) types: Vec<u32>,
    /// The ids before the text's first subword.
    pub(super) head: Vec<u32>,
    pub(super) type_input: TypeInput,
}

/// How a list of types is asked for; made by [`Collator::passes`].
#[derive(Clone, Debug)]
pub struct Passes {
    pub(super) passes: Vec<Pass>,
    /// How many subwords of each text are read, the same in every pass.
    pub(super) text_room: usize,
    /// How many types there are in all passes.
    pub(super) types: usize,
    /// How many names had to be cut off.
    pub cut_names: usize,
}

impl Passes {
    /// How many forward passes a batch takes.
    pub fn len(&self) -> usize {
        self.passes.len()
    }

    /// How many subwords of each text are read.
    pub fn text_room(&self) -> usize {
        self.text_room
    }

    /// Whether no type is asked for.
    pub fn is_empty(&self) -> bool {
        self.types == 0
    }
}

impl Collator {
    /// Plans how `types` are asked for, whose subword ids are `names[type]`. `longest_text` is the number of subwords of the
    /// longest text that they will be asked of; a prompt leaves room for it, or for half the window where it is longer.
    pub fn passes(&self, types: &[u32], names: &[Vec<u32>], longest_text: usize) -> Passes {
        match &self.types {
            TypeReader::Apart { .. } => {
                let (input, cut_names) = self.type_input(types, names);
                Passes {
                    passes: vec![Pass {
                        types: types.to_vec(),
                        head: self.special.cls.into_iter().collect(),
                        type_input: TypeInput::Apart(input),
                    }],
                    text_room: self.config.max_seq_length - self.special.count(),
                    types: types.len(),
                    cut_names,
                }
            }
            TypeReader::Prompt(_) => self.prompts(types, names, longest_text),
        }
    }

    /// The type encoder's input, one sequence a type: `[CLS] name [SEP]`; and how many names were cut off. For a cross-encoder it is empty.
    pub fn type_input(&self, types: &[u32], names: &[Vec<u32>]) -> (EncoderInput, usize) {
        let TypeReader::Apart { special, window } = &self.types else {
            return (EncoderInput::default(), 0);
        };
        let room = LONGEST_NAME.min(*window).saturating_sub(special.count());
        let rows: Vec<Vec<u32>> = types
            .iter()
            .map(|&label| {
                let name = &names[label as usize];
                let kept = &name[..name.len().min(room)];
                [special.cls.as_slice(), kept, &[special.sep]].concat()
            })
            .collect();
        let cut = types
            .iter()
            .filter(|&&label| names[label as usize].len() > room)
            .count();
        (EncoderInput::packed(&rows), cut)
    }

    fn prompts(&self, types: &[u32], names: &[Vec<u32>], longest_text: usize) -> Passes {
        let window = self.config.max_seq_length;
        let TypeReader::Prompt(markers) = &self.types else {
            unreachable!("only a cross-encoder has prompts");
        };
        // What precedes the types, and the separators after them and after the text.
        let fixed = self.special.count() + usize::from(markers.threshold.is_some()) + 1;
        let reserved = longest_text.min(window / 2);
        // At least one marker and one subword of a name.
        let budget = window.saturating_sub(fixed + reserved).max(2);

        let begin = || {
            let head: Vec<u32> = self.special.cls.into_iter().chain(markers.threshold).collect();
            (Vec::new(), head, Vec::new())
        };
        let (mut passes, mut cut_names) = (Vec::new(), 0);
        let (mut members, mut head, mut positions): (Vec<u32>, Vec<u32>, Vec<u32>) = begin();
        let start = head.len();
        let mut finish = |members: Vec<u32>, mut head: Vec<u32>, positions: Vec<u32>| {
            head.push(self.special.sep);
            passes.push(Pass {
                types: members,
                head,
                type_input: TypeInput::Markers(positions),
            });
        };
        for &label in types {
            let name = &names[label as usize];
            let kept = &name[..name.len().min(budget - 1)];
            cut_names += usize::from(kept.len() < name.len());
            if !members.is_empty() && head.len() - start + 1 + kept.len() > budget {
                finish(members, head, positions);
                (members, head, positions) = begin();
            }
            members.push(label);
            positions.push(head.len() as u32);
            head.push(markers.label);
            head.extend_from_slice(kept);
        }
        finish(members, head, positions);
        let longest_head = passes.iter().map(|pass| pass.head.len()).max().unwrap_or(0);
        Passes {
            passes,
            text_room: window.saturating_sub(longest_head + 1),
            types: types.len(),
            cut_names,
        }
    }
}
