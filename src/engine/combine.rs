//! A request over several trunks: what is asked of which, and one answer from theirs.
//!
//! Most servers have one trunk, and then nothing is combined. Where sentiment and keyphrases come from different
//! models, a keyphrase has the sentiment of its sentence, or of the text where the sentiment model judges no sentences.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    EngineError, ScoreOptions, ScoreReply, Tasks, TextError,
    registry::{Table, Unit},
    serve::{Reply, Treatment},
    tasks::plan::{Inputs, Output},
};
use crate::scores::Scores;

/// Part of a request: a trunk, and the tasks that it answers.
struct Part {
    unit: Arc<Unit>,
    tasks: Tasks,
}

/// Which trunks answer which tasks; the first counts the tokens.
fn parts(table: &Table, tasks: &Tasks) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for slot in tasks.slots() {
        let Some(unit) = table.unit(slot) else { continue };
        match parts.iter_mut().find(|p| Arc::ptr_eq(&p.unit, unit)) {
            Some(part) => part.tasks.set(slot),
            None => parts.push(Part { unit: unit.clone(), tasks: Tasks::only(slot) }),
        }
    }
    if parts.is_empty()
        && let Some((_, unit)) = table.slots().next()
    {
        // Nothing that is asked for has a model: language and tokens are told all the same.
        parts.push(Part { unit: unit.clone(), tasks: Tasks::NONE });
    }
    parts
}

/// Scores texts on every trunk that a task needs.
pub async fn score(
    table: &Table,
    texts: Vec<String>,
    options: ScoreOptions,
) -> Result<ScoreReply, EngineError> {
    let mut asked = options.tasks;
    let apart = |a: &str, b: &str| match (table.unit(a), table.unit(b)) {
        (Some(a), Some(b)) => !Arc::ptr_eq(a, b),
        _ => false,
    };
    let sentiment_apart = options.tasks.keyphrases && apart("sentiment", "keyphrases");
    if sentiment_apart {
        asked.set("sentiment");
    }
    let mut parts = parts(table, &asked);
    let treatment = Treatment { lane: options.lane, deadline: options.deadline };
    if parts.len() == 1
        && let Some(part) = parts.pop()
    {
        let reply = submit(&part, texts, treatment)?.await.unwrap_or_else(|_| Err(lost()))?;
        let models = part.unit.server.model.references(&part.tasks);
        let Reply { results, tokens, timing } = reply;
        return Ok(ScoreReply { results: results.into_iter().map(scores).collect(), models, tokens, timing });
    }
    // One that refuses ends the request; what the others have begun is dropped with their receivers.
    let mut waiting = Vec::with_capacity(parts.len());
    for part in parts {
        let answer = submit(&part, texts.clone(), treatment)?;
        waiting.push((part, answer));
    }
    let mut combined: Option<ScoreReply> = None;
    for (part, answer) in waiting {
        let reply = answer.await.unwrap_or_else(|_| Err(lost()))?;
        let models = part.unit.server.model.references(&part.tasks);
        let results: Vec<_> = reply.results.into_iter().map(scores).collect();
        combined = Some(match combined {
            None => ScoreReply { results, models, tokens: reply.tokens, timing: reply.timing },
            Some(mut all) => {
                all.results = all.results.into_iter().zip(results).map(|(a, b)| Ok(joined(a?, b?))).collect();
                all.models.extend(models);
                all.timing = all.timing.and(&reply.timing);
                all
            }
        });
    }
    let mut reply = combined.ok_or_else(lost)?;
    if sentiment_apart {
        for scores in reply.results.iter_mut().flatten() {
            sentiment_of_sentences(scores);
            if !options.tasks.sentiment {
                scores.sentiment = None;
                scores.sentences.clear();
            }
        }
    }
    Ok(reply)
}

type Answer = oneshot::Receiver<Result<Reply, EngineError>>;

fn submit(part: &Part, texts: Vec<String>, treatment: Treatment) -> Result<Answer, EngineError> {
    part.unit.server.submit(Inputs::Scores { texts, tasks: part.tasks }, treatment)
}

fn lost() -> EngineError {
    EngineError::Model("the request was lost to a fault".into())
}

fn scores(result: Result<Output, TextError>) -> Result<Scores, TextError> {
    match result? {
        Output::Scores(scores) => Ok(scores),
        Output::Raw(_) => Err(TextError::Tokenizer("the model answered another question".into())),
    }
}

/// What two trunks said about one text, each about other tasks.
fn joined(a: Scores, b: Scores) -> Scores {
    Scores {
        truncated: a.truncated || b.truncated,
        sentiment: a.sentiment.or(b.sentiment),
        intent: a.intent.or(b.intent),
        keyphrases: a.keyphrases.or(b.keyphrases),
        emotion: a.emotion.or(b.emotion),
        sentences: if a.sentences.is_empty() { b.sentences } else { a.sentences },
        ..a
    }
}

/// Gives every keyphrase the sentiment of the sentence that it begins in, or else of the text.
fn sentiment_of_sentences(scores: &mut Scores) {
    let text = scores.sentiment.as_ref().map(|s| s.label);
    for phrase in scores.keyphrases.iter_mut().flatten() {
        let sentence = scores.sentences.iter().find(|s| (s.start..s.end).contains(&phrase.start));
        phrase.sentiment = sentence.map(|s| s.sentiment.label).or(text);
    }
}
