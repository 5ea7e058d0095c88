//! A table of text, drawn for a terminal, in Markdown and in LaTeX.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// What a field without a result shows.
pub(crate) const NOTHING: &str = "–";

/// A table of text, ready to be drawn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grid {
    /// The heads of the columns that name a row; these are aligned to the left, the others to the right.
    pub(crate) names: Vec<String>,
    /// The heads of the other columns.
    pub(crate) values: Vec<Head>,
    /// The lines, as many fields as there are heads.
    pub(crate) lines: Vec<Vec<Field>>,
}

/// The head of a column.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// What it has in common with its neighbours.
    pub(crate) group: Option<String>,
    /// What it has for itself; may be empty if it has a group.
    pub(crate) title: String,
}

/// One field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) text: String,
    /// Whether it stands out: the best of its column.
    pub(crate) best: bool,
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self { text, best: false }
    }
}

impl Head {
    /// In one line.
    fn text(&self) -> String {
        match &self.group {
            None => self.title.clone(),
            Some(group) if self.title.is_empty() => group.clone(),
            Some(group) => format!("{group} {}", self.title),
        }
    }
}

impl Grid {
    fn heads(&self) -> Vec<String> {
        self.names
            .iter()
            .cloned()
            .chain(self.values.iter().map(Head::text))
            .collect()
    }

    /// Whether any field of a column stands out.
    fn has_best(&self, column: usize) -> bool {
        self.lines.iter().any(|line| line[column].best)
    }

    /// With lines drawn between its rows, for a terminal. What stands out has a star.
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_HORIZONTAL_ONLY)
            .set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.heads());
        for line in &self.lines {
            table.add_row(line.iter().enumerate().map(|(column, field)| {
                let mark = match (field.best, self.has_best(column)) {
                    (true, _) => " *",
                    (false, true) => "  ",
                    (false, false) => "",
                };
                format!("{}{mark}", field.text)
            }));
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            let side = if index < self.names.len() {
                CellAlignment::Left
            } else {
                CellAlignment::Right
            };
            column.set_cell_alignment(side);
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n") + "\n"
    }

    /// In Markdown, with its columns aligned in the source as well. What stands out is bold.
    pub(crate) fn markdown(&self) -> String {
        let escape = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let head = self.heads().iter().map(|head| escape(head)).collect();
        let shown = |field: &Field| match field.best {
            true => format!("**{}**", escape(&field.text)),
            false => escape(&field.text),
        };
        let lines: Vec<Vec<String>> = std::iter::once(head)
            .chain(self.lines.iter().map(|line| line.iter().map(shown).collect()))
            .collect();
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|column| {
                let width = |line: &Vec<String>| line[column].chars().count();
                lines.iter().map(width).max().unwrap_or(0).max(3)
            })
            .collect();
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            for (column, field) in line.iter().enumerate() {
                let width = widths[column];
                text.push_str(&match column < self.names.len() {
                    true => format!("| {field:<width$} "),
                    false => format!("| {field:>width$} "),
                });
            }
            text.push_str("|\n");
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    text.push_str(&match column < self.names.len() {
                        true => format!("| {} ", "-".repeat(*width)),
                        false => format!("| {}: ", "-".repeat(width - 1)),
                    });
                }
                text.push_str("|\n");
            }
        }
        text
    }

    /// A `tabular` in LaTeX, with the rules of the package `booktabs`. What stands out is bold.
    pub(crate) fn latex(&self) -> String {
        let columns = "l".repeat(self.names.len()) + &"r".repeat(self.values.len());
        let mut text = format!("% \\usepackage{{booktabs}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n");
        let mut line = |fields: Vec<String>| text.push_str(&format!("{} \\\\\n", fields.join(" & ")));
        let names = || self.names.iter().map(|name| latex(name));
        let grouped = self
            .values
            .iter()
            .any(|head| head.group.is_some() && !head.title.is_empty());
        if grouped {
            let mut fields: Vec<String> = self.names.iter().map(|_| String::new()).collect();
            let mut rules = Vec::new();
            let mut first = self.names.len() + 1;
            for group in self.values.chunk_by(|one, other| one.group == other.group) {
                let name = group[0].group.as_deref().unwrap_or_default();
                fields.push(format!("\\multicolumn{{{}}}{{c}}{{{}}}", group.len(), latex(name)));
                rules.push(format!("\\cmidrule(lr){{{first}-{}}}", first + group.len() - 1));
                first += group.len();
            }
            line(fields);
            line(
                names()
                    .chain(self.values.iter().map(|head| latex(&head.title)))
                    .collect(),
            );
            // The rules stand between the two lines of heads.
            let second = text.trim_end_matches('\n').rfind('\n').map_or(0, |at| at + 1);
            text.insert_str(second, &format!("{}\n", rules.join(" ")));
        } else {
            line(
                names()
                    .chain(self.values.iter().map(|head| latex(&head.text())))
                    .collect(),
            );
        }
        text.push_str("\\midrule\n");
        for fields in &self.lines {
            let shown = fields.iter().map(|field| match field.best {
                true => format!("\\textbf{{{}}}", latex(&field.text)),
                false => latex(&field.text),
            });
            text.push_str(&format!("{} \\\\\n", shown.collect::<Vec<_>>().join(" & ")));
        }
        text + "\\bottomrule\n\\end{tabular}\n"
    }
}

/// Text as LaTeX reads it.
fn latex(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', c]),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '±' => escaped.push_str("$\\pm$"),
            '−' => escaped.push_str("$-$"),
            '–' => escaped.push_str("--"),
            '\n' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(text: &str, best: bool) -> Field {
        Field {
            text: text.to_owned(),
            best,
        }
    }

    fn grid() -> Grid {
        let head = |group: &str, title: &str| Head {
            group: Some(group.to_owned()),
            title: title.to_owned(),
        };
        Grid {
            names: vec!["loss_fn".to_owned()],
            values: vec![head("en", "F1"), head("en", "R"), head("de", "F1"), head("de", "R")],
            lines: vec![
                vec![
                    field("bce|x", false),
                    field("0.5 ± 0.1", true),
                    field("1", false),
                    field("3", false),
                    field(NOTHING, false),
                ],
                vec![
                    field("focal", false),
                    field("0.4 ± 0.1", false),
                    field("2", true),
                    field("−4", false),
                    field("5%", false),
                ],
            ],
        }
    }

    #[test]
    fn markdown_is_aligned_and_marks_the_best() {
        let expected = "\
| loss_fn |     en F1 |  en R | de F1 | de R |
";
        let text = grid().markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].replace(' ', ""), expected.trim_end().replace(' ', ""));
        assert_eq!(lines[2], "| bce\\|x  | **0.5 ± 0.1** |     1 |     3 |    – |");
        assert_eq!(lines[3], "| focal   |     0.4 ± 0.1 | **2** |    −4 |   5% |");
    }

    #[test]
    fn a_terminal_gets_stars_that_do_not_disturb_the_digits() {
        let text = grid().text();
        assert!(text.contains("0.5 ± 0.1 *") && text.contains("0.4 ± 0.1  "), "{text}");
    }

    #[test]
    fn latex_escapes_and_groups_columns() {
        let expected = "\
% \\usepackage{booktabs}
\\begin{tabular}{lrrrr}
\\toprule
 & \\multicolumn{2}{c}{en} & \\multicolumn{2}{c}{de} \\\\
\\cmidrule(lr){2-3} \\cmidrule(lr){4-5}
loss\\_fn & F1 & R & F1 & R \\\\
\\midrule
bce|x & \\textbf{0.5 $\\pm$ 0.1} & 1 & 3 & -- \\\\
focal & 0.4 $\\pm$ 0.1 & \\textbf{2} & $-$4 & 5\\% \\\\
\\bottomrule
\\end{tabular}
";
        assert_eq!(grid().latex(), expected);
        assert_eq!(
            latex("a~b^c\\{#}"),
            "a\\textasciitilde{}b\\textasciicircum{}c\\textbackslash{}\\{\\#\\}"
        );
    }
}
