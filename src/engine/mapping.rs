//! What a model's labels mean: from the many names that models have to the closed set of a slot.
//!
//! A label is mapped by the request, else by its own name where that is one of ours, else by the names that the
//! catalogue lists (`models/catalog.toml`: stars, abbreviations, other languages). What stays open is refused with a
//! hint: a guess would be a wrong label for every text.

use super::{catalog, error::ModelError, source::LabelMap};
use crate::scores::Label;

/// For each label of `L`, in order, the places among the model's labels that mean it (perhaps none).
pub fn places<L: Label>(slot: &str, own: &[String], given: &LabelMap) -> Result<Vec<Vec<usize>>, ModelError> {
    let wanted = || L::ALL.iter().map(|l| l.name()).collect::<Vec<_>>().join(", ");
    for (label, meaning) in given {
        if !own.contains(label) {
            return Err(ModelError::head(
                slot,
                format!("`labels` names {label:?}, which the model does not have; it has {}", listed(own)),
            ));
        }
        if L::from_name(meaning).is_none() {
            return Err(ModelError::head(
                slot,
                format!("`labels` maps {label:?} to {meaning:?}, which is none of {}", wanted()),
            ));
        }
    }
    let mut places = vec![Vec::new(); L::ALL.len()];
    let mut open = Vec::new();
    for (place, label) in own.iter().enumerate() {
        let meaning = match given.get(label) {
            Some(meaning) => L::from_name(meaning),
            None => L::from_name(&label.to_lowercase())
                .or_else(|| catalog::meaning(slot, label).and_then(L::from_name)),
        };
        match meaning {
            Some(meaning) => places[meaning.index()].push(place),
            None => open.push(label.as_str()),
        }
    }
    if let Some(first) = open.first() {
        let example = L::ALL[0].name();
        return Err(ModelError::head(
            slot,
            format!(
                "has the labels {}; it must have {}. Say what {} with \"labels\": {{{first:?}: {example:?}, ...}}",
                listed(own),
                wanted(),
                if open.len() == 1 { format!("{first} means") } else { format!("{} mean", open.join(", ")) },
            ),
        ));
    }
    if places.iter().filter(|p| !p.is_empty()).count() < 2 {
        return Err(ModelError::head(
            slot,
            format!("all labels ({}) mean the same; at least two of {} are needed", listed(own), wanted()),
        ));
    }
    Ok(places)
}

/// Labels that are shown in an error.
const LISTED_MAX: usize = 12;

fn listed(labels: &[String]) -> String {
    let shown = labels.iter().take(LISTED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match labels.len().checked_sub(LISTED_MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::{Intent, Sentiment};

    fn owned(labels: &[&str]) -> Vec<String> {
        labels.iter().map(|l| l.to_string()).collect()
    }

    fn map(pairs: &[(&str, &str)]) -> LabelMap {
        pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    #[test]
    fn known_names_need_no_table() {
        let places = |labels: &[&str]| {
            super::places::<Sentiment>("sentiment", &owned(labels), &LabelMap::new()).unwrap()
        };
        assert_eq!(places(&["positive", "neutral", "negative"]), [[2], [1], [0]]);
        assert_eq!(places(&["NEGATIVE", "POSITIVE"]), [vec![0], vec![], vec![1]]);
        assert_eq!(places(&["NEG", "NEU", "POS"]), [[0], [1], [2]]);
        assert_eq!(
            places(&["1 star", "2 stars", "3 stars", "4 stars", "5 stars"]),
            [vec![0, 1], vec![2], vec![3, 4]]
        );
        assert_eq!(places(&["négatif", "neutre", "positif"]), [[0], [1], [2]]);
        assert_eq!(places(&["消极", "积极"]), [vec![0], vec![], vec![1]]);
    }

    #[test]
    fn a_table_in_the_request_comes_first() {
        let given = map(&[("LABEL_0", "positive"), ("LABEL_1", "negative")]);
        let places = places::<Sentiment>("sentiment", &owned(&["LABEL_0", "LABEL_1"]), &given).unwrap();
        assert_eq!(places, [vec![1], vec![], vec![0]]);
    }

    #[test]
    fn what_cannot_be_mapped_is_refused_with_a_hint() {
        let refused = |labels: &[&str], given: &[(&str, &str)]| {
            places::<Intent>("intent", &owned(labels), &map(given)).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&["LABEL_0", "complaint"], &[]),
            "head intent: has the labels LABEL_0, complaint; it must have complaint, purchase, request, other. Say what \
             LABEL_0 means with \"labels\": {\"LABEL_0\": \"complaint\", ...}"
        );
        assert!(
            refused(&["a", "b"], &[("c", "other")])
                .contains("\"c\", which the model does not have; it has a, b")
        );
        assert!(refused(&["a", "b"], &[("a", "buy")]).contains("\"buy\", which is none of complaint"));
        assert!(refused(&["a", "b"], &[("a", "other"), ("b", "other")]).contains("mean the same"));
    }
}
