//! Whether the fields of a record fit together.

use std::collections::HashSet;

use super::parse::{Notes, RawRecord, RawSpan, RecordError, gather};
use super::{MAX_LABEL, Origin, Record, Span};

/// Where the tokens lie in the text.
struct Layout {
    /// The first code point of each token.
    starts: Vec<u32>,
    /// The code point after each token.
    ends: Vec<u32>,
    /// Code points of the text.
    length: u32,
}

/// White space, as Python's `str.split` sees it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// What there is of a record, where not all of it can be read.
pub(super) struct Parts<'a> {
    pub(super) text: Option<&'a str>,
    pub(super) tokens: Option<&'a [String]>,
    /// With their places in the list.
    pub(super) token_spans: &'a [(usize, RawSpan)],
    pub(super) char_spans: &'a [(usize, RawSpan)],
}

/// Adds what is wrong with the parts of a record, each for itself.
pub(super) fn check_parts(parts: &Parts<'_>, problems: &mut Vec<RecordError>) {
    let text = parts.text.filter(|text| check_text(text, problems));
    match (text, parts.tokens) {
        (Some(text), Some(tokens)) => drop(lay_out_all(text, tokens, problems)),
        (None, Some(tokens)) => problems.extend(blank_tokens(tokens)),
        (_, None) => {}
    }
    let length = text.map(|text| text.chars().count() as u32);
    let shown = text.unwrap_or_default();
    check_spans(
        "char_spans",
        placed(parts.char_spans),
        (length, "characters"),
        shown,
        problems,
    );
    let length = parts
        .tokens
        .filter(|tokens| !tokens.is_empty())
        .map(|tokens| tokens.len() as u32);
    check_spans(
        "token_spans",
        placed(parts.token_spans),
        (length, "tokens"),
        shown,
        problems,
    );
}

fn placed(spans: &[(usize, RawSpan)]) -> impl Iterator<Item = (usize, &RawSpan)> {
    spans.iter().map(|(index, span)| (*index, span))
}

/// The record, if its tokens are those of its text and its spans mark the same entities.
///
/// # Errors
/// All that is wrong, as far as it can be told while something is: spans are compared with each other when each is right by itself.
pub(super) fn check(raw: RawRecord, line: u64) -> Result<(Record, Notes), RecordError> {
    let mut notes = Notes::default();
    let mut problems = Vec::new();
    let RawRecord {
        id,
        language,
        dataset,
        text,
        tokens,
        token_spans,
        char_spans,
    } = raw;
    for (field, name) in [("language", &language), ("dataset", &dataset)] {
        problems.extend(name.as_deref().and_then(|name| problem_of_origin(field, name)));
    }
    let has_text = check_text(&text, &mut problems);
    let layout = if has_text {
        lay_out_all(&text, &tokens, &mut problems)
    } else {
        problems.extend(blank_tokens(&tokens));
        None
    };
    let id = id.map(|id| id.0).unwrap_or_else(|| {
        notes.made_id = true;
        format!("line-{line}")
    });
    // Where there is no text or there are no tokens, that is what is wrong with positions too.
    let characters = match &layout {
        Some(layout) => Some(layout.length),
        None => has_text.then(|| text.chars().count() as u32),
    };
    let words = (!tokens.is_empty()).then_some(tokens.len() as u32);
    for (field, spans, length) in [
        ("char_spans", &char_spans, (characters, "characters")),
        ("token_spans", &token_spans, (words, "tokens")),
    ] {
        check_spans(field, spans.iter().flatten().enumerate(), length, &text, &mut problems);
    }
    if token_spans.is_none() && char_spans.is_none() {
        problems.push(no_spans());
    }
    let Some(layout) = layout.filter(|_| problems.is_empty()) else {
        return Err(RecordError::join(problems));
    };

    let mut unique = |spans: Vec<RawSpan>| {
        let given = spans.len();
        let spans = unique(spans);
        notes.duplicate_spans = notes.duplicate_spans.max((given - spans.len()) as u64);
        spans
    };
    let token_spans = token_spans.map(&mut unique);
    let char_spans = char_spans.map(&mut unique);

    let (token_spans, char_spans) = match (token_spans, char_spans) {
        (Some(tokens_given), Some(chars_given)) => {
            let agree = Agreement {
                text: &text,
                layout: &layout,
                chars: &chars_given,
            };
            let chars = agree.check(&tokens_given)?;
            (tokens_given, chars)
        }
        (Some(tokens_given), None) => {
            notes.derived_spans = true;
            let chars = tokens_given.iter().map(|span| layout.chars(span)).collect();
            (tokens_given, chars)
        }
        (None, chars_given) => {
            notes.derived_spans = true;
            let chars_given = chars_given.unwrap_or_default();
            let tokens = chars_given.iter().enumerate();
            let tokens =
                gather(tokens.map(|(index, span)| layout.tokens(span).ok_or_else(|| off_tokens(index, span, &text))))?;
            (tokens, chars_given)
        }
    };
    Ok((
        Record {
            id,
            origin: Origin { language, dataset },
            text,
            tokens,
            token_spans,
            char_spans,
        },
        notes,
    ))
}

/// What is said of a record without any list of spans.
pub(super) fn no_spans() -> RecordError {
    RecordError::new("token_spans", "both `token_spans` and `char_spans` are missing")
        .help("a sentence without entities has empty lists")
}

/// What is wrong with the name of a language or a dataset.
pub(super) fn problem_of_origin(field: &str, name: &str) -> Option<RecordError> {
    let problem = problem_of_name(name, "the name")?;
    Some(RecordError::new(field, problem).help("give a short name, or leave the field out"))
}

/// Whether the text is one; adds what is wrong with it.
fn check_text(text: &str, problems: &mut Vec<RecordError>) -> bool {
    let blank = text.chars().all(is_space);
    if blank {
        let what = if text.is_empty() {
            "the text is empty"
        } else {
            "the text is white space only"
        };
        problems.push(RecordError::new("text", what).help("remove the line"));
    }
    !blank
}

/// Whether the text is made of the tokens, with only white space between them.
pub(super) fn holds(text: &str, tokens: &[String]) -> bool {
    lay_out(text, tokens).is_ok()
}

/// Finds every token in the text; adds all that is wrong with them.
fn lay_out_all(text: &str, tokens: &[String], problems: &mut Vec<RecordError>) -> Option<Layout> {
    match lay_out(text, tokens) {
        Ok(layout) => Some(layout),
        Err(error) => {
            // Behind a token that the text does not hold, all are wrong, unless they are no tokens at all.
            let others: Vec<RecordError> = blank_tokens(tokens)
                .filter(|blank| blank.field != error.field)
                .collect();
            problems.push(error);
            problems.extend(others);
            None
        }
    }
}

/// The tokens that are none.
fn blank_tokens(tokens: &[String]) -> impl Iterator<Item = RecordError> {
    let numbered = tokens.iter().enumerate();
    numbered.filter_map(|(index, token)| blank_token(index, token))
}

/// What is wrong with a token by itself.
fn blank_token(index: usize, token: &str) -> Option<RecordError> {
    let what = if token.is_empty() {
        "the token is empty"
    } else if token.chars().all(is_space) {
        "the token is white space only"
    } else {
        return None;
    };
    let error = RecordError::new(format!("tokens[{index}]"), what);
    Some(error.help("remove it, and count token spans without it"))
}

/// Finds every token in the text, with only white space between them.
///
/// # Errors
/// The first thing that is wrong.
fn lay_out(text: &str, tokens: &[String]) -> Result<Layout, RecordError> {
    if tokens.is_empty() {
        return Err(
            RecordError::new("tokens", "there are no tokens, but the text is not empty")
                .help("give the words of the text; nerpipe does not split texts itself"),
        );
    }
    let mut layout = Layout {
        starts: Vec::with_capacity(tokens.len()),
        ends: Vec::with_capacity(tokens.len()),
        length: 0,
    };
    let mut rest = text;
    let mut position = 0u32;
    for (index, token) in tokens.iter().enumerate() {
        if let Some(error) = blank_token(index, token) {
            return Err(error);
        }
        while !rest.starts_with(token.as_str()) {
            let mut chars = rest.chars();
            if !chars.next().is_some_and(is_space) {
                let found: String = rest.chars().take(token.chars().count().min(40)).collect();
                return Err(RecordError::new(
                    format!("tokens[{index}]"),
                    format!(
                        "the token {} is not what the text holds at character {position}: {}",
                        show(token),
                        show(&found)
                    ),
                )
                .help("tokens must be the text cut into pieces, unchanged: no normalization, nothing left out"));
            }
            rest = chars.as_str();
            position += 1;
        }
        layout.starts.push(position);
        position += token.chars().count() as u32;
        layout.ends.push(position);
        rest = &rest[token.len()..];
    }
    if !rest.chars().all(is_space) {
        return Err(
            RecordError::new("tokens", format!("no token covers the end of the text: {}", show(rest)))
                .help("tokens must be the text cut into pieces, nothing left out"),
        );
    }
    layout.length = position + rest.chars().count() as u32;
    Ok(layout)
}

/// Where each token lies in the text, in code points, ends exclusive.
///
/// # Errors
/// If the tokens are not those of the text.
pub fn places(text: &str, tokens: &[String]) -> Result<Vec<(u32, u32)>, RecordError> {
    let layout = lay_out(text, tokens)?;
    Ok(layout.starts.into_iter().zip(layout.ends).collect())
}

impl Layout {
    /// The code points of a token span.
    fn chars(&self, span: &Span) -> Span {
        Span {
            start: self.starts[span.start as usize],
            end: self.ends[span.end as usize - 1],
            label: span.label.clone(),
        }
    }

    /// The tokens of a character span, if it begins and ends with tokens.
    fn tokens(&self, span: &Span) -> Option<Span> {
        let start = self.starts.binary_search(&span.start).ok()? as u32;
        let end = self.ends.binary_search(&span.end).ok()? as u32 + 1;
        (start < end).then(|| Span {
            start,
            end,
            label: span.label.clone(),
        })
    }
}

/// Checks spans by themselves, each with its place in the list. `length` is that of the record in some unit; without one, nobody knows
/// whether a span ends past it.
fn check_spans<'a>(
    field: &str,
    spans: impl IntoIterator<Item = (usize, &'a RawSpan)>,
    (length, unit): (Option<u32>, &str),
    text: &str,
    problems: &mut Vec<RecordError>,
) {
    for (index, RawSpan { start, end, label }) in spans {
        let mut wrong = |part: &str, reason: String, help: Option<&str>| {
            problems.push(RecordError {
                help: help.map(str::to_owned),
                ..RecordError::new(format!("{field}[{index}]{part}"), reason)
            });
        };
        if start == end {
            let reason = format!("the span {start}..{end} is empty");
            wrong("", reason, Some("ends are exclusive"));
        } else if start > end {
            wrong("", format!("the span {start}..{end} ends before it starts"), None);
        } else if let Some(length) = length.filter(|length| end > length) {
            let counts_bytes = unit == "characters" && *end as usize <= text.len();
            let help = counts_bytes.then_some("the positions look like UTF-8 bytes; count Unicode code points");
            let reason = format!("the span {start}..{end} ends past the {length} {unit} of the record");
            wrong(".end", reason, help);
        }
        if let Some(problem) = problem_of_name(label, "the label") {
            wrong(".label", problem, Some("name the entity's type in a few words"));
        }
    }
}

/// What is wrong with a label, or with the name of a language or dataset; `what` is what the message calls it.
pub(crate) fn problem_of_name(name: &str, what: &str) -> Option<String> {
    let problem = if name.trim().is_empty() {
        "is blank"
    } else if name.trim() != name {
        "begins or ends with white space"
    } else if name.chars().any(char::is_control) {
        "holds a control character, such as a line break or a tab"
    } else if name.chars().nth(MAX_LABEL).is_some() {
        return Some(format!("{what} is longer than {MAX_LABEL} characters"));
    } else {
        return None;
    };
    Some(format!("{what} {problem}: {}", show(name)))
}

/// Up to so many spans are looked through one by one, which is faster than hashing them.
const FEW: usize = 16;

/// The spans without those that were given before.
fn unique(spans: Vec<RawSpan>) -> Vec<Span> {
    let spans = spans
        .into_iter()
        .map(|RawSpan { start, end, label }| Span { start, end, label });
    if spans.len() <= FEW {
        let mut kept: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            if !kept.contains(&span) {
                kept.push(span);
            }
        }
        return kept;
    }
    let mut seen = HashSet::with_capacity(spans.len());
    spans.filter(|span| seen.insert(span.clone())).collect()
}

/// The check that token spans and character spans mark the same entities.
struct Agreement<'a> {
    text: &'a str,
    layout: &'a Layout,
    chars: &'a [Span],
}

impl Agreement<'_> {
    /// The character spans in the order of the token spans.
    fn check(&self, tokens: &[Span]) -> Result<Vec<Span>, RecordError> {
        let expected: Vec<Span> = tokens.iter().map(|span| self.layout.chars(span)).collect();
        let missing = if self.chars.len() <= FEW {
            expected.iter().any(|span| !self.chars.contains(span))
        } else {
            let given: HashSet<&Span> = self.chars.iter().collect();
            expected.iter().any(|span| !given.contains(span))
        };
        // Where every token span has its partner and none is there twice, only character spans can be left over.
        if missing || self.chars.len() > expected.len() {
            return Err(self.disagreements(tokens, &expected));
        }
        Ok(expected)
    }

    /// Says of every token span without a partner how it differs from the character spans, and which of these are left over then.
    fn disagreements(&self, tokens: &[Span], expected: &[Span]) -> RecordError {
        let given: HashSet<&Span> = self.chars.iter().collect();
        let known: HashSet<&Span> = expected.iter().collect();
        let free: Vec<(usize, &Span)> = self
            .chars
            .iter()
            .enumerate()
            .filter(|(_, span)| !known.contains(span))
            .collect();
        let mut told = HashSet::new();
        let mut problems = Vec::new();
        for (index, span) in expected.iter().enumerate().filter(|(_, span)| !given.contains(span)) {
            let near = free
                .iter()
                .min_by_key(|(_, other)| other.start.abs_diff(span.start) + other.end.abs_diff(span.end));
            told.extend(near.map(|(place, _)| *place));
            problems.push(self.disagreement(index, &tokens[index], span, near.copied()));
        }
        let left = free.iter().filter(|(place, _)| !told.contains(place));
        problems.extend(left.map(|(place, _)| self.left_over(*place, tokens.len())));
        RecordError::join(problems)
    }

    fn left_over(&self, index: usize, tokens: usize) -> RecordError {
        let span = &self.chars[index];
        RecordError::new(
            format!("char_spans[{index}]"),
            format!(
                "{} ({}..{}) is in no token span; there are {tokens} token spans and {} character spans",
                self.surface(span),
                span.start,
                span.end,
                self.chars.len()
            ),
        )
        .help("`token_spans` and `char_spans` must mark the same entities")
    }

    /// Says how token span `index`, which covers the characters `expected`, differs from the character span nearest to it.
    fn disagreement(&self, index: usize, token: &Span, expected: &Span, near: Option<(usize, &Span)>) -> RecordError {
        let head = format!(
            "the span covers {} (tokens {}..{}, characters {}..{})",
            self.surface(expected),
            token.start,
            token.end,
            expected.start,
            expected.end
        );
        let field = format!("token_spans[{index}]");
        let Some((place, near)) = near else {
            return RecordError::new(
                field,
                format!(
                    "{head}, which no character span covers; there are {} of them",
                    self.chars.len()
                ),
            )
            .help("`token_spans` and `char_spans` must mark the same entities");
        };
        if (near.start, near.end) == (expected.start, expected.end) {
            return RecordError::new(
                format!("{field}.label"),
                format!(
                    "the label is {} here and {} in `char_spans[{place}]`",
                    show(&token.label),
                    show(&near.label)
                ),
            )
            .help("`token_spans` and `char_spans` must mark the same entities");
        }
        let error = RecordError::new(
            field,
            format!(
                "{head}, but `char_spans[{place}]` covers {} ({}..{})",
                self.surface(near),
                near.start,
                near.end
            ),
        );
        match self.likely_cause(token, expected, near) {
            Some(cause) => error.help(cause),
            None => error.help("`token_spans` and `char_spans` must mark the same entities"),
        }
    }

    /// The usual mistakes: offsets in other units, and inclusive ends.
    fn likely_cause(&self, token: &Span, expected: &Span, near: &Span) -> Option<&'static str> {
        let units = |position: u32, length: fn(char) -> usize| {
            self.text.chars().take(position as usize).map(length).sum::<usize>() as u32
        };
        let same = |length: fn(char) -> usize| {
            (near.start, near.end) == (units(expected.start, length), units(expected.end, length))
        };
        if same(char::len_utf8) {
            Some("the character positions are UTF-8 bytes; count Unicode code points")
        } else if same(char::len_utf16) {
            Some("the character positions are UTF-16 units; count Unicode code points")
        } else if near.start == expected.start && self.layout.ends.get(token.end as usize) == Some(&near.end) {
            Some("the token span looks inclusive; `end` is the token after the last")
        } else if near.start == expected.start && near.end + 1 == expected.end {
            Some("the character span looks inclusive; `end` is the character after the last")
        } else if self.layout.tokens(near).is_none() {
            Some("character spans must begin and end where tokens do")
        } else {
            None
        }
    }

    fn surface(&self, span: &Span) -> String {
        let surface: String = self
            .text
            .chars()
            .skip(span.start as usize)
            .take((span.end - span.start) as usize)
            .collect();
        show(&surface)
    }
}

fn off_tokens(index: usize, span: &Span, text: &str) -> RecordError {
    let surface: String = text
        .chars()
        .skip(span.start as usize)
        .take((span.end - span.start) as usize)
        .collect();
    RecordError::new(
        format!("char_spans[{index}]"),
        format!(
            "{} ({}..{}) does not begin and end with tokens",
            show(&surface),
            span.start,
            span.end
        ),
    )
    .help("move the span to token borders, or cut the tokens there")
}

/// A piece of users' text for a message: quoted, escaped, at most 40 characters.
pub(super) fn show(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    format!("{short:?}")
}
