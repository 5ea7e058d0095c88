//! Pickles, read without running anything in them.
//!
//! A pickle is a program for a small stack machine, and in Python it may call any function there is. This machine builds plain
//! values and tensors that lie in storages outside the pickle, by the few calls that PyTorch writes for them; whatever else a
//! pickle asks for is an error that names it. Values live in one arena and refer to each other by number, so that neither
//! sharing nor deep nesting costs more than the pickle's own length.
//!
//! Source of the opcodes: the comments of `pickletools` in Python's standard library.

use std::collections::HashMap;

/// A value's number in its [`Pickle`].
pub(super) type Id = usize;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian two's complement.
    Long(Vec<u8>),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Tuple(Vec<Id>),
    /// A list; a set reads as one too.
    List(Vec<Id>),
    /// A dictionary, ordered or not: keys and values in the order in which they were set.
    Dict(Vec<(Id, Id)>),
    /// One of the few names that mean something here.
    Global(Global),
    /// Numbers outside the pickle: what their persistent id says.
    Storage(Storage),
    Tensor(Tensor),
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    /// A class of storages, by its name in `torch`.
    StorageClass(&'static str),
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Self> {
        const STORAGES: [&str; 10] = [
            "FloatStorage",
            "DoubleStorage",
            "HalfStorage",
            "BFloat16Storage",
            "LongStorage",
            "IntStorage",
            "ShortStorage",
            "CharStorage",
            "ByteStorage",
            "BoolStorage",
        ];
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", "Size") => Some(Self::Size),
            ("torch", name) => STORAGES
                .into_iter()
                .find(|class| *class == name)
                .map(Self::StorageClass),
            _ => None,
        }
    }
}

/// A storage, as a persistent id describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    /// Its class in `torch`.
    pub(super) class: &'static str,
    /// Its name among the file's storages.
    pub(super) key: String,
    /// How many numbers it holds.
    pub(super) numbers: usize,
    /// Where it begins in another storage, in numbers (old files may have such views).
    pub(super) offset: usize,
}

/// A tensor: a view of a storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub(super) storage: Storage,
    /// The place of its first number in the storage.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// How many numbers lie from one index to the next, by dimension.
    pub(super) strides: Vec<usize>,
}

/// Why a pickle was not read.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum PickleError {
    /// It asks for something that is no tensor and no plain value.
    #[error("it holds `{0}`, which is neither a tensor nor a plain value; nothing of it was run")]
    Foreign(String),
    /// The bytes are no pickle.
    #[error("its pickle is damaged at byte {at}: {reason}")]
    Damaged { at: usize, reason: String },
}

/// A pickle that was read.
pub(super) struct Pickle {
    values: Vec<Value>,
    /// The value it stands for.
    pub(super) root: Id,
    /// How many bytes it took; others may follow.
    pub(super) length: usize,
}

impl Pickle {
    /// Reads the pickle that `bytes` begin with.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, PickleError> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run()?;
        Ok(Self {
            root,
            length: machine.at,
            values: machine.values,
        })
    }

    /// The value with this number.
    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// The value with this number if it is a text.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match &self.values[id] {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// All storages that are spoken of.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(storage),
            _ => None,
        })
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack where a mark was set.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

type Done<T = ()> = Result<T, PickleError>;

impl<'a> Machine<'a> {
    /// Runs until the pickle stops; the number of the value it stands for.
    fn run(&mut self) -> Done<Id> {
        loop {
            let code = self.take(1)?[0];
            match code {
                b'.' => return self.pop(),
                _ => self.step(code)?,
            }
        }
    }

    fn step(&mut self, code: u8) -> Done {
        match code {
            // The protocol's number, and frames: nothing depends on them.
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            // Marks and the stack.
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_to_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            // Constants.
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            // Numbers.
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))
            }
            b'K' => {
                let number = self.unsigned(1)?;
                self.push(Value::Int(number as i64))
            }
            b'M' => {
                let number = self.unsigned(2)?;
                self.push(Value::Int(number as i64))
            }
            b'I' | b'L' => {
                let line = self.line()?;
                let value = match line {
                    "00" => Value::Bool(false),
                    "01" => Value::Bool(true),
                    digits => match digits.trim_end_matches('L').parse() {
                        Ok(number) => Value::Int(number),
                        Err(_) => return Err(self.damaged(format!("`{digits}` is no number"))),
                    },
                };
                self.push(value)
            }
            0x8a => {
                let bytes = self.sized(1)?;
                self.push(long(bytes))
            }
            0x8b => {
                let bytes = self.sized(4)?;
                self.push(long(bytes))
            }
            b'G' => {
                let number = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(number))
            }
            b'F' => {
                let line = self.line()?;
                let number = line
                    .parse()
                    .map_err(|_| self.damaged(format!("`{line}` is no number")))?;
                self.push(Value::Float(number))
            }
            // Text and bytes. Texts of Python 2 (`U`, `T`) are names here, so they are read as text.
            0x8c => self.text(1),
            b'X' => self.text(4),
            0x8d => self.text(8),
            b'U' => self.text(1),
            b'T' => self.text(4),
            b'V' => {
                let line = self.line()?.to_owned();
                self.push(Value::Text(line))
            }
            b'C' => self.bytes(1),
            b'B' => self.bytes(4),
            0x8e => self.bytes(8),
            // Collections.
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items))
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let items = self.pop_many(count)?;
                self.push(Value::Tuple(items))
            }
            b']' | 0x8f => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(items))
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.append(items)
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.set(&items)
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set(&items)
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(&items)
            }
            // The memo.
            b'q' => self.remember(1),
            b'r' => self.remember(4),
            b'h' => self.recall(1),
            b'j' => self.recall(4),
            b'p' => {
                let key = self.memo_key()?;
                self.memo.insert(key, self.top()?);
                Ok(())
            }
            b'g' => {
                let key = self.memo_key()?;
                self.push_remembered(key)
            }
            0x94 => {
                self.memo.insert(self.memo.len() as u64, self.top()?);
                Ok(())
            }
            // Names and calls.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            0x93 => {
                let parts = self.pop_many(2)?;
                match (&self.values[parts[0]], &self.values[parts[1]]) {
                    (Value::Text(module), Value::Text(name)) => {
                        let (module, name) = (module.clone(), name.clone());
                        self.global(&module, &name)
                    }
                    _ => Err(self.damaged("a name that is no text")),
                }
            }
            b'R' | 0x81 => self.call(),
            b'b' => self.build(),
            b'Q' => self.persistent(),
            other => Err(self.damaged(format!("the opcode {other:#04x} is not used for tensors"))),
        }
    }

    fn damaged(&self, reason: impl Into<String>) -> PickleError {
        PickleError::Damaged {
            at: self.at,
            reason: reason.into(),
        }
    }

    // Reading.

    fn take(&mut self, count: usize) -> Done<&'a [u8]> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.get(..count));
        let bytes = bytes.ok_or_else(|| self.damaged("it ends too early"))?;
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Done<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A little-endian number of `width` bytes.
    fn unsigned(&mut self, width: usize) -> Done<u64> {
        let bytes = self.take(width)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Bytes whose number stands before them in `width` bytes.
    fn sized(&mut self, width: usize) -> Done<&'a [u8]> {
        let count = self.unsigned(width)?;
        let count = usize::try_from(count).map_err(|_| self.damaged("it ends too early"))?;
        self.take(count)
    }

    fn line(&mut self) -> Done<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| self.damaged("it ends too early"))?;
        let line = std::str::from_utf8(&rest[..length]).map_err(|_| self.damaged("a line is no text"))?;
        self.at += length + 1;
        Ok(line.trim_end_matches('\r'))
    }

    fn text(&mut self, width: usize) -> Done {
        let bytes = self.sized(width)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.damaged("a text is not UTF-8"))?;
        self.push(Value::Text(text.to_owned()))
    }

    fn bytes(&mut self, width: usize) -> Done {
        let bytes = self.sized(width)?.to_owned();
        self.push(Value::Bytes(bytes))
    }

    // The stack and the memo.

    fn push(&mut self, value: Value) -> Done {
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    /// The height that may not be popped below: the last mark's.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Done<Id> {
        if self.stack.len() <= self.floor() {
            return Err(self.damaged("nothing is on the stack"));
        }
        self.stack.pop().ok_or_else(|| self.damaged("nothing is on the stack"))
    }

    fn pop_many(&mut self, count: usize) -> Done<Vec<Id>> {
        if self.stack.len() < self.floor() + count {
            return Err(self.damaged("too little is on the stack"));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_to_mark(&mut self) -> Done<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| self.damaged("no mark is set"))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Done<Id> {
        let top = self.stack.last().copied();
        top.ok_or_else(|| self.damaged("nothing is on the stack"))
    }

    fn remember(&mut self, width: usize) -> Done {
        let key = self.unsigned(width)?;
        self.memo.insert(key, self.top()?);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Done {
        let key = self.unsigned(width)?;
        self.push_remembered(key)
    }

    fn memo_key(&mut self) -> Done<u64> {
        let line = self.line()?;
        line.parse().map_err(|_| self.damaged(format!("`{line}` is no number")))
    }

    fn push_remembered(&mut self, key: u64) -> Done {
        let id = self.memo.get(&key).copied();
        let id = id.ok_or_else(|| self.damaged(format!("nothing was remembered as {key}")))?;
        self.stack.push(id);
        Ok(())
    }

    // Building.

    fn append(&mut self, mut items: Vec<Id>) -> Done {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(list) => {
                list.append(&mut items);
                Ok(())
            }
            _ => Err(self.damaged("something is appended to what is no list")),
        }
    }

    fn set(&mut self, items: &[Id]) -> Done {
        let dict = self.top()?;
        match &mut self.values[dict] {
            Value::Dict(entries) if items.len().is_multiple_of(2) => {
                entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => Err(self.damaged("something is set in what is no dictionary")),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Done {
        match Global::named(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(PickleError::Foreign(format!("{module}.{name}"))),
        }
    }

    /// Calls a name with a tuple of arguments.
    fn call(&mut self) -> Done {
        let operands = self.pop_many(2)?;
        let (&Value::Global(global), Value::Tuple(arguments)) = (&self.values[operands[0]], &self.values[operands[1]])
        else {
            return Err(self.damaged("something is called that is no name"));
        };
        let value = match (global, arguments.as_slice()) {
            (Global::OrderedDict, []) => Value::Dict(Vec::new()),
            (Global::Size, &[sizes]) => match &self.values[sizes] {
                Value::Tuple(sizes) | Value::List(sizes) => Value::Tuple(sizes.clone()),
                _ => return Err(self.damaged("a size that is no list")),
            },
            (Global::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                let Value::Storage(storage) = &self.values[storage] else {
                    return Err(self.damaged("a tensor without a storage"));
                };
                Value::Tensor(Tensor {
                    storage: storage.clone(),
                    offset: self.size(offset)?,
                    shape: self.sizes(shape)?,
                    strides: self.sizes(strides)?,
                })
            }
            (Global::RebuildParameter, &[tensor, ..]) => match &self.values[tensor] {
                Value::Tensor(tensor) => Value::Tensor(tensor.clone()),
                _ => return Err(self.damaged("a parameter without a tensor")),
            },
            _ => return Err(self.damaged(format!("{global:?} is called with other arguments than PyTorch's"))),
        };
        self.push(value)
    }

    /// Sets an object's attributes. Only a state dict has any (its `_metadata`), and nothing here depends on them.
    fn build(&mut self) -> Done {
        self.pop()?;
        let object = self.top()?;
        match self.values[object] {
            Value::Dict(_) => Ok(()),
            _ => Err(self.damaged("attributes are set on what has none")),
        }
    }

    /// A storage: `("storage", class, key, place, numbers[, view])`.
    fn persistent(&mut self) -> Done {
        let id = self.pop()?;
        let wrong = "a persistent id that is no storage";
        let Value::Tuple(fields) = &self.values[id] else {
            return Err(self.damaged(wrong));
        };
        let (&[tag, class, key, _place, numbers], view) =
            fields.split_first_chunk().ok_or_else(|| self.damaged(wrong))?;
        let (Value::Text(tag), &Value::Global(Global::StorageClass(class)), Value::Text(key)) =
            (&self.values[tag], &self.values[class], &self.values[key])
        else {
            return Err(self.damaged(wrong));
        };
        if tag != "storage" {
            return Err(self.damaged(wrong));
        }
        let mut storage = Storage {
            class,
            key: key.clone(),
            numbers: self.size(numbers)?,
            offset: 0,
        };
        if let Some(Value::Tuple(view)) = view.first().map(|&view| &self.values[view]) {
            let &[_, offset, numbers] = view.as_slice() else {
                return Err(self.damaged(wrong));
            };
            (storage.offset, storage.numbers) = (self.size(offset)?, self.size(numbers)?);
        }
        self.push(Value::Storage(storage))
    }

    fn size(&self, id: Id) -> Done<usize> {
        match self.values[id] {
            Value::Int(number) => usize::try_from(number).ok(),
            _ => None,
        }
        .ok_or_else(|| self.damaged("a size that is no number from 0"))
    }

    fn sizes(&self, id: Id) -> Done<Vec<usize>> {
        match &self.values[id] {
            Value::Tuple(sizes) | Value::List(sizes) => sizes.iter().map(|&size| self.size(size)).collect(),
            _ => Err(self.damaged("a shape that is no list of numbers")),
        }
    }
}

/// An integer in two's complement of any length.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Long(bytes.to_owned());
    }
    let fill = if bytes.last().is_some_and(|&byte| byte >= 0x80) {
        0xff
    } else {
        0
    };
    let mut whole = [fill; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Value, PickleError> {
        Pickle::read(bytes).map(|pickle| pickle.get(pickle.root).clone())
    }

    /// `{"a": [1, -2, 2**70, 1.5, None, True], "b": ("x", b"y")}` in protocols 0 to 5, written by Python.
    #[test]
    fn plain_values_of_every_protocol() {
        let written: [&[u8]; 4] = [
            b"(dp0\nVa\np1\n(lp2\nI1\naI-2\naL1180591620717411303424L\naF1.5\naNaI01\nas.",
            b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xff\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00@G?\xf8\x00\x00\x00\x00\x00\x00N\x88es.",
            b"\x80\x04\x95\x28\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xff\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00@G?\xf8\x00\x00\x00\x00\x00\x00N\x88es.",
            b"\x80\x03}q\x00X\x01\x00\x00\x00aq\x01C\x01yq\x02h\x01\x86q\x03s.",
        ];
        // Protocol 0 writes large integers in digits, which no tensor file needs.
        assert!(matches!(read(written[0]), Err(PickleError::Damaged { .. })));
        for bytes in &written[1..3] {
            let pickle = Pickle::read(bytes).expect("read");
            assert_eq!(pickle.length, bytes.len());
            let Value::Dict(entries) = pickle.get(pickle.root) else {
                panic!("no dictionary")
            };
            let Value::List(items) = pickle.get(entries[0].1) else {
                panic!("no list")
            };
            let items: Vec<&Value> = items.iter().map(|&item| pickle.get(item)).collect();
            assert_eq!(items[..2], [&Value::Int(1), &Value::Int(-2)]);
            assert!(matches!(items[2], Value::Long(bytes) if bytes.len() == 9));
            assert_eq!(items[3..], [&Value::Float(1.5), &Value::None, &Value::Bool(true)]);
        }
        let pickle = Pickle::read(written[3]).expect("read");
        let Value::Dict(entries) = pickle.get(pickle.root) else {
            panic!("no dictionary")
        };
        let Value::Tuple(pair) = pickle.get(entries[0].1) else {
            panic!("no tuple")
        };
        assert_eq!(pickle.get(pair[0]), &Value::Bytes(b"y".to_vec()));
        assert_eq!(pickle.get(pair[1]), &Value::Text("a".to_owned()));
    }

    /// What Python would run: `os.system("echo")`, in the old and the new form, and through `builtins.eval`.
    #[test]
    fn nothing_is_called_but_what_builds_tensors() {
        for (bytes, name) in [
            (&b"cos\nsystem\n(S'echo'\ntR."[..], "os.system"),
            (
                b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04echo\x85R.",
                "posix.system",
            ),
            (b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", "builtins.eval"),
            (b"\x80\x02ctorch\nload\nX\x01\x00\x00\x001\x85R.", "torch.load"),
        ] {
            assert_eq!(read(bytes), Err(PickleError::Foreign(name.to_owned())));
        }
    }

    #[test]
    fn damage_is_found_and_never_a_panic() {
        for bytes in [
            &b""[..],
            b".",
            b"\x80",
            b"(",
            b"(0.",
            b"e.",
            b"R.",
            b"N)R.",
            b"ccollections\nOrderedDict\n(K\x01tR.",
            b"h\x07.",
            b"X\xff\xff\xff\xffa.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.",
            b"X\x01\x00\x00\x00\xff.",
            b"]]s.",
            b"}K\x01a.",
            b"NQ.",
            b"NNb.",
            b"\xfe.",
        ] {
            assert!(matches!(read(bytes), Err(PickleError::Damaged { .. })), "{bytes:?}");
        }
    }

    /// Half a million nested lists: nothing recurses, neither reading nor dropping.
    #[test]
    fn depth_costs_no_stack() {
        let mut bytes = vec![b']'; 500_000];
        bytes.extend(std::iter::repeat_n(b'a', 499_999));
        bytes.push(b'.');
        assert!(matches!(read(&bytes), Ok(Value::List(items)) if items.len() == 1));
    }

    #[test]
    fn a_list_may_hold_itself() {
        assert!(matches!(read(b"]q\x00h\x00a."), Ok(Value::List(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        /// Random programs of real opcodes reach further than random bytes.
        #[test]
        fn any_program_is_read_or_refused(codes in proptest::collection::vec(proptest::sample::select(
            &b"(012N\x88\x89)t\x85\x86\x87]lae}dsu\x94\x93R\x81bQh\x00q\x00K\x01ccollections\nOrderedDict\nX\x01\x00\x00\x00a"[..]
        ), 0..200)) {
            let _ = read(&codes);
        }
    }
}
