//! What is wrong with a manifest, as a good compiler shows it.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use nerpipe_engine::{Diagnostic, Severity};

/// One diagnostic with its line, a marker and the help.
pub(crate) fn render(diagnostic: &Diagnostic, colours: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()));
    if let Some(place) = &diagnostic.place {
        let byte = |character: usize| {
            place
                .source
                .char_indices()
                .nth(character)
                .map_or(place.source.len(), |(byte, _)| byte)
        };
        let (start, end) = (place.column - 1, place.column - 1 + place.length);
        group = group.element(
            Snippet::source(place.source.as_str())
                .path(place.file.as_str())
                .line_start(place.line)
                .annotation(
                    AnnotationKind::Primary
                        .span(byte(start)..byte(end))
                        .label(diagnostic.label.as_deref()),
                ),
        );
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
    renderer.decor_style(DecorStyle::Ascii).render(&[group]).to_string()
}

#[cfg(test)]
mod tests {
    use nerpipe_engine::Place;

    use super::*;

    #[test]
    fn a_diagnostic_shows_line_marker_and_help() {
        let diagnostic = Diagnostic::error("`train` has no setting `raté`")
            .at(Place {
                file: "m.yaml".to_owned(),
                line: 12,
                column: 9,
                length: 4,
                source: "  é: {x, raté: 1}".to_owned(),
            })
            .label("here")
            .help("did you mean `rate`?");
        let text = render(&diagnostic, false);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "error: `train` has no setting `raté`",
                "  --> m.yaml:12:9",
                "   |",
                "12 |   é: {x, raté: 1}",
                "   |         ^^^^ here",
                "   |",
                "   = help: did you mean `rate`?",
            ]
        );
    }

    #[test]
    fn without_a_place_only_words_are_left() {
        let text = render(&Diagnostic::error("cannot read `x`").help("give a file"), false);
        assert!(text.starts_with("error: cannot read `x`"), "{text}");
        assert!(text.contains("help: give a file"), "{text}");
    }
}
