//! The nearest valid name to a misspelt one, for the help line of an error.

/// The candidate nearest to `name`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| {
            let (shorter, longer) = (lower.chars().count(), candidate.chars().count());
            let (shorter, longer) = (shorter.min(longer), shorter.max(longer));
            // Of a short name something must be left.
            *distance <= 1 + longer / 4 && *distance < shorter
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A help line: the nearest candidate if there is one, else all of them.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    match nearest(name, candidates.iter().copied()) {
        Some(nearest) => Some(format!("did you mean `{nearest}`?")),
        None if candidates.is_empty() => None,
        None => Some(format!("known here: {}", candidates.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        let names = ["learning_rate", "weight_decay", "max_steps"];
        assert_eq!(nearest("learning_rtae", names), Some("learning_rate"));
        assert_eq!(nearest("MaxSteps", names), Some("max_steps"));
        assert_eq!(nearest("colour", names), None);
        assert_eq!(nearest("x", ["s", "t"]), None);
        assert_eq!(
            did_you_mean("colour", names).as_deref(),
            Some("known here: learning_rate, weight_decay, max_steps")
        );
        assert_eq!(did_you_mean("colour", []), None);
    }
}
