//! Entities of a text, for programs and for people.

use nerpipe_stages::predict::Entity;
use serde_json::{Value, json};

use crate::exit::Error;
use crate::terminal::Paint;

/// One JSON object: `{"id", "text", "entities": [{"start", "end", "label", "text", "score"}]}`, positions in code points.
pub(crate) fn json(id: Option<&Value>, text: &str, entities: &[Entity]) -> Result<String, Error> {
    let mut line = serde_json::Map::new();
    if let Some(id) = id {
        line.insert("id".to_owned(), id.clone());
    }
    line.insert("text".to_owned(), json!(text));
    line.insert("entities".to_owned(), json!(entities));
    serde_json::to_string(&line).map_err(Error::environment)
}

/// The text with brackets around its entities, `[Ada Lovelace](person)`, coloured by type.
pub(crate) fn marked(text: &str, entities: &[Entity], paint: Paint) -> String {
    let mut labels: Vec<&str> = entities.iter().map(|entity| entity.label.as_str()).collect();
    labels.sort_unstable();
    labels.dedup();
    let colour = |entity: &Entity, text: &str| {
        let number = labels.iter().position(|label| *label == entity.label).unwrap_or(0);
        paint.palette(number, text)
    };
    // Where one begins, the longest comes first; where one ends, the shortest does.
    let mut opening: Vec<&Entity> = entities.iter().collect();
    opening.sort_by_key(|entity| (entity.start, std::cmp::Reverse(entity.end)));
    let mut opening = opening.into_iter().peekable();
    let mut open: Vec<&Entity> = Vec::new();
    let mut marked = String::with_capacity(text.len());
    let length = text.chars().count() as u32;
    let characters = text.chars().map(Some).chain([None]);
    for (place, character) in (0..=length).zip(characters) {
        while let Some(entity) = open.pop_if(|entity| entity.end <= place) {
            marked.push_str(&colour(entity, &format!("]({})", entity.label)));
        }
        while let Some(entity) = opening.next_if(|entity| entity.start == place) {
            marked.push_str(&colour(entity, "["));
            open.push(entity);
        }
        marked.extend(character);
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(start: u32, end: u32, label: &str) -> Entity {
        Entity {
            start,
            end,
            label: label.to_owned(),
            text: String::new(),
            score: 0.75,
        }
    }

    #[test]
    fn entities_are_marked_in_the_text() {
        let plain = Paint { on: false };
        let all = [entity(0, 3, "person"), entity(8, 18, "org"), entity(14, 18, "city")];
        assert_eq!(
            marked("Ada met Bank Köln", &all[..1], plain),
            "[Ada](person) met Bank Köln"
        );
        assert_eq!(
            marked(
                "Ada met Bank Köln!",
                &[entity(0, 3, "person"), entity(8, 17, "org"), entity(13, 17, "city")],
                plain
            ),
            "[Ada](person) met [Bank [Köln](city)](org)!"
        );
        assert_eq!(marked("", &[], plain), "");
        assert!(marked("Ada", &[entity(0, 3, "person")], Paint { on: true }).contains("\x1b["));
    }

    #[test]
    fn programs_get_places_and_scores() {
        let line = json(Some(&json!(3)), "Ada", &[entity(0, 3, "person")]).expect("JSON");
        assert_eq!(
            line,
            r#"{"id":3,"text":"Ada","entities":[{"start":0,"end":3,"label":"person","text":"","score":0.75}]}"#
        );
    }
}
