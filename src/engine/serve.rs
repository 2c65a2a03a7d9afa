//! The life of a request: admitted, tokenised off the async threads, queued, answered from shared forward passes.
//!
//! One thread runs forward passes back to back (two threads on a GPU, so that one's copies overlap with the other's
//! kernels) and takes what waits each time it is free: a lone request goes at once, and batches grow by themselves while it
//! is busy. Tokenising and putting answers together have threads of their own, by lane, so that they overlap with forward
//! passes and a large bulk request does not stand in a chat's way. What is so
//! short that waking another thread would cost more is done on the spot.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    EngineError, Lane, TextError, Timing,
    admission::{Admission, Gate, Refused},
    measure::Measures,
    model::Model,
    scheduler::{BatchLimits, Queue, place},
    tasks::plan::{Inputs, Output, Plan, Reading},
    tokenize::TEXT_TOKENS_MAX,
};

/// A forward pass should take about this long at most, so that what arrives meanwhile does not wait longer ...
const BATCH_TIME: Duration = Duration::from_millis(100);
/// ... and one of bulk work about half of it.
const BULK_TIME: Duration = Duration::from_millis(50);
/// Batches are not cut below this many tokens, where matrix products become inefficient.
const BATCH_TOKENS_MIN: usize = 256;

/// Bytes of a text for each token of the estimate by which a request is admitted.
const BYTES_PER_TOKEN: usize = 4;

/// Interactive work without a deadline is refused when what goes before it takes longer than this: an answer that comes
/// so late serves nobody. Bulk work waits as long as the queue holds.
const INTERACTIVE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longer deadlines mean as much as this one.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Part of a deadline that is planned with; the rest is for what the plan does not know.
const DEADLINE_PLANNED: f64 = 0.9;

/// A request of at most so many tokens is tokenised where it arrives: that takes less than a tenth of a millisecond, as
/// long as waking another thread.
const TOKENIZE_HERE_TOKENS_MAX: usize = 128;
/// Answers of a batch with at most so many requests are put together by the thread that ran it.
const ANSWER_HERE_REQUESTS_MAX: usize = 2;

/// How long a refused caller is told to wait, at least and at most.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Weight of the last batch in the running mean of the speed.
const SPEED_WEIGHT: f64 = 0.2;

/// What all callers, the tokenising threads and the forward thread share.
pub struct Server {
    pub model: Arc<Model>,
    pub gate: Arc<Gate>,
    measures: Measures,
    /// Tokens a second of the last forward passes: the bits of an `f64`.
    speed: AtomicU64,
    batch_tokens_max: usize,
    queue_tokens_max: usize,
    state: Mutex<State>,
    work_waits: Condvar,
    /// Threads that tokenise and put answers together, by lane.
    interactive_aside: rayon::ThreadPool,
    bulk_aside: rayon::ThreadPool,
}

struct State {
    queue: Queue<Work>,
    /// When the last forward pass ended.
    last_ended: Instant,
    stopped: bool,
}

/// One window of one text.
struct Work {
    request: Arc<Request>,
    text: usize,
    window: usize,
    tokens: usize,
}

/// How a request is treated, whatever it asks.
#[derive(Clone, Copy, Debug)]
pub struct Treatment {
    pub lane: Lane,
    /// Work that has not begun when this has passed is dropped.
    pub deadline: Option<Duration>,
}

/// What a trunk says about the inputs of a request.
pub struct Reply {
    /// One per input, in order.
    pub results: Vec<Result<Output, TextError>>,
    /// Tokens over all inputs.
    pub tokens: usize,
    pub timing: Timing,
}

/// A request whose texts are tokenised.
struct Request {
    plans: Vec<Result<Plan, TextError>>,
    options: Treatment,
    admission: Admission,
    arrived: Instant,
    queued: Instant,
    progress: Mutex<Progress>,
}

struct Progress {
    readings: Vec<Vec<Option<Reading>>>,
    windows_left: usize,
    reply: Option<oneshot::Sender<Result<Reply, EngineError>>>,
    begun: Option<Instant>,
    forward: Duration,
}

impl Server {
    /// Starts the forward threads; they end after [`Server::stop`].
    pub fn start(
        model: Model,
        batch_tokens_max: usize,
        queue_tokens_max: usize,
    ) -> Result<Arc<Self>, EngineError> {
        let threads = model.executor.info().threads;
        let pool = |name: &'static str, threads: usize| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(move |i| format!("{name}-{i}"))
                .build()
                .map_err(|e| EngineError::Model(format!("threads: {e}")))
        };
        let server = Arc::new(Self {
            measures: Measures::new(&model.name),
            gate: Gate::new(queue_tokens_max),
            batch_tokens_max,
            queue_tokens_max,
            speed: AtomicU64::new(model.tokens_per_s.to_bits()),
            state: Mutex::new(State { queue: Queue::new(), last_ended: Instant::now(), stopped: false }),
            work_waits: Condvar::new(),
            interactive_aside: pool("tokenize", threads)?,
            bulk_aside: pool("tokenize-bulk", threads.div_ceil(2))?,
            model: Arc::new(model),
        });
        for i in 0..server.model.executor.batches_at_once().max(1) {
            let of_thread = server.clone();
            let spawned = std::thread::Builder::new()
                .name(format!("batches-{i}"))
                .spawn(move || of_thread.run())
                .map_err(|e| EngineError::Model(format!("threads: {e}")));
            if let Err(error) = spawned {
                server.stop();
                return Err(error);
            }
        }
        Ok(server)
    }

    /// Admits a request and returns where its answer will come.
    pub fn submit(
        self: &Arc<Self>,
        inputs: Inputs,
        mut options: Treatment,
    ) -> Result<oneshot::Receiver<Result<Reply, EngineError>>, EngineError> {
        let arrived = Instant::now();
        options.deadline = options.deadline.map(|d| d.min(DEADLINE_MAX));
        let tokens = |bytes: usize| (bytes / BYTES_PER_TOKEN + 2).min(TEXT_TOKENS_MAX);
        let estimate = inputs.bytes().into_iter().map(tokens).sum();
        let admission = self.admit(estimate, &options, arrived)?;
        let (reply, answer) = oneshot::channel();
        let server = self.clone();
        let (lane, short) = (options.lane, estimate <= TOKENIZE_HERE_TOKENS_MAX);
        let prepare = move || server.prepare(inputs, options, admission, arrived, reply);
        if short {
            // As in `aside`: a panic ends one request.
            let _ = catch_unwind(AssertUnwindSafe(prepare));
        } else {
            self.aside(lane, prepare);
        }
        Ok(answer)
    }

    /// A place for a request of about so many tokens, unless the queue is full or the answer would come too late.
    fn admit(&self, tokens: usize, options: &Treatment, arrived: Instant) -> Result<Admission, EngineError> {
        let speed = self.tokens_per_s().max(1.0);
        let time = |tokens: usize| Duration::from_secs_f64((tokens as f64 / speed).min(1e6));
        // The batch that answers it also holds what comes after it.
        let until_begun = |ahead: usize| time(ahead) + time(ahead).min(BATCH_TIME);
        let (wait, wait_max) = match (options.deadline, options.lane) {
            (Some(deadline), _) => (time(tokens), deadline.mul_f64(DEADLINE_PLANNED)),
            (None, Lane::Interactive) => (Duration::ZERO, INTERACTIVE_WAIT_MAX),
            (None, Lane::Bulk) => (Duration::ZERO, Duration::MAX),
        };
        let place = place(arrived, options.deadline.map(|d| arrived + d), tokens);
        let acceptable = |ahead: usize| until_begun(ahead) + wait <= wait_max;
        let retry_after = |after: Duration| after.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
        self.gate.admit(options.lane, tokens, place, acceptable).map_err(|refused| {
            if refused != Refused::Closed {
                self.measures.rejected(options.lane);
            }
            match refused {
                Refused::Closed => EngineError::ShuttingDown,
                Refused::Full { tokens } => EngineError::Overloaded {
                    queue_tokens_max: self.queue_tokens_max,
                    retry_after: retry_after(time(tokens)),
                },
                Refused::Late { ahead } => {
                    let wait = until_begun(ahead) + wait;
                    EngineError::TooLate {
                        wait_ms: wait.as_millis() as u64,
                        wait_ms_max: options.deadline.unwrap_or(wait_max).as_millis() as u64,
                        retry_after: retry_after(wait.saturating_sub(wait_max)),
                    }
                }
            }
        })
    }

    /// Runs `job` on the lane's own threads, beside forward passes.
    fn aside(&self, lane: Lane, job: impl FnOnce() + Send + 'static) {
        let pool = match lane {
            Lane::Interactive => &self.interactive_aside,
            Lane::Bulk => &self.bulk_aside,
        };
        pool.spawn(move || {
            // A panic here would end the process; caught, it ends one request: its reply is dropped.
            let _ = catch_unwind(AssertUnwindSafe(job));
        });
    }

    fn prepare(
        &self,
        inputs: Inputs,
        options: Treatment,
        admission: Admission,
        arrived: Instant,
        reply: oneshot::Sender<Result<Reply, EngineError>>,
    ) {
        if reply.is_closed() {
            return;
        }
        let model = &self.model;
        let plans = inputs.plans(&model.tokenizer, model.window_tokens_max);
        let sequences: Vec<(usize, usize, usize)> = plans
            .iter()
            .enumerate()
            .filter_map(|(i, plan)| Some((i, plan.as_ref().ok()?)))
            .flat_map(|(i, plan)| (0..plan.windows()).map(move |w| (i, w, model.sequence_tokens(plan, w))))
            .collect();
        admission.settle(sequences.iter().map(|(_, _, tokens)| tokens).sum());
        let readings = plans.iter().map(|p| vec![None; p.as_ref().map_or(0, Plan::windows)]).collect();
        let request = Arc::new(Request {
            plans,
            options,
            admission,
            arrived,
            queued: Instant::now(),
            progress: Mutex::new(Progress {
                readings,
                windows_left: sequences.len(),
                reply: Some(reply),
                begun: None,
                forward: Duration::ZERO,
            }),
        });
        if sequences.is_empty() {
            self.answer(&request);
            return;
        }
        let work = sequences
            .into_iter()
            .map(|(text, window, tokens)| (tokens, Work { request: request.clone(), text, window, tokens }));
        let mut state = self.state();
        if state.stopped {
            return;
        }
        let deadline = options.deadline.map(|d| arrived + d);
        state.queue.push(options.lane, request.queued, deadline, work);
        self.measure_queue(&state);
        self.work_waits.notify_one();
    }

    /// Ends the forward thread. What still waits is dropped, and its callers are told.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        let dropped = state.queue.drain();
        self.work_waits.notify_all();
        drop(state);
        for work in dropped {
            work.request.fail(EngineError::ShuttingDown);
        }
    }

    fn run(self: Arc<Self>) {
        while let Some(batch) = self.next_batch() {
            self.run_batch(batch);
        }
    }

    /// Waits for work; `None` when stopped.
    fn next_batch(&self) -> Option<Vec<Work>> {
        let mut state = self.state();
        loop {
            if state.stopped {
                return None;
            }
            let expired = state.queue.take_expired(Instant::now());
            let limits = self.limits(self.tokens_per_s());
            let batch = state.queue.take(limits);
            if batch.is_empty() && expired.is_empty() {
                state = self.work_waits.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            self.measure_queue(&state);
            if [Lane::Interactive, Lane::Bulk].iter().any(|lane| state.queue.tokens(*lane) > 0) {
                // Another forward thread may take what is left.
                self.work_waits.notify_one();
            }
            drop(state);
            for work in expired {
                if work.request.fail(EngineError::DeadlineExceeded) {
                    self.measures.expired(work.request.options.lane);
                }
            }
            // Whose caller has gone, or was answered with an error, costs no forward.
            let batch: Vec<Work> = batch.into_iter().filter(|w| w.request.is_wanted()).collect();
            if !batch.is_empty() {
                return Some(batch);
            }
            state = self.state();
        }
    }

    fn limits(&self, tokens_per_s: f64) -> BatchLimits {
        let tokens_in = |time: Duration| {
            ((tokens_per_s * time.as_secs_f64()) as usize).max(BATCH_TOKENS_MIN).min(self.batch_tokens_max)
        };
        BatchLimits { batch_tokens_max: tokens_in(BATCH_TIME), bulk_tokens_max: tokens_in(BULK_TIME) }
    }

    fn run_batch(self: &Arc<Self>, batch: Vec<Work>) {
        let begun = Instant::now();
        let tokens: usize = batch.iter().map(|w| w.tokens).sum();
        self.gate.began(tokens);
        for work in &batch {
            work.request.admission.release(work.tokens);
            if work.request.begin(begun) {
                self.measures.waited(work.request.options.lane, begun - work.request.queued);
            }
        }
        let windows: Vec<(&Plan, usize)> =
            batch.iter().filter_map(|w| Some((w.request.plan(w.text)?, w.window))).collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.model.forward(&windows)));
        let spent = begun.elapsed();
        self.gate.ended(tokens);
        let busy = self.busy(begun, begun + spent);
        self.measures.batch(tokens, spent);
        let (before, speed) = (self.tokens_per_s(), tokens as f64 / busy.as_secs_f64().max(1e-6));
        // A few tokens are slow for their number, and say nothing about how long a queue takes.
        if speed > before || tokens >= BATCH_TOKENS_MIN.min(self.batch_tokens_max) {
            let mean = before + SPEED_WEIGHT * (speed - before);
            // Of two threads' figures either will do.
            self.speed.store(mean.to_bits(), Ordering::Relaxed);
        }
        let readings = match outcome {
            Ok(Ok(readings)) => readings,
            Ok(Err(error)) => return fail_all(&batch, &error.to_string()),
            Err(_) => return fail_all(&batch, "the forward pass failed"),
        };
        let mut last: Option<&Arc<Request>> = None;
        let (mut requests, mut done) = (0, Vec::new());
        for (work, reading) in batch.iter().zip(readings) {
            let first_of_batch = last.is_none_or(|l| !Arc::ptr_eq(l, &work.request));
            let spent = if first_of_batch { spent } else { Duration::ZERO };
            last = Some(&work.request);
            requests += usize::from(first_of_batch);
            if work.request.record(work.text, work.window, reading, spent) {
                done.push(&work.request);
            }
        }
        for request in done {
            if requests <= ANSWER_HERE_REQUESTS_MAX && request.plans.len() == 1 {
                // As in `aside`: a panic ends one request.
                let _ = catch_unwind(AssertUnwindSafe(|| self.answer(request)));
            } else {
                let (server, request) = (self.clone(), request.clone());
                self.aside(request.options.lane, move || server.answer(&request));
            }
        }
        for lane in [Lane::Interactive, Lane::Bulk] {
            let of_lane = batch.iter().filter(|w| w.request.options.lane == lane);
            self.measures.tokens(lane, of_lane.map(|w| w.tokens).sum());
        }
    }

    /// Merges a request's readings and sends them off.
    fn answer(&self, request: &Request) {
        let mut progress = request.progress();
        let readings = std::mem::take(&mut progress.readings);
        let results = request
            .plans
            .iter()
            .zip(readings)
            .map(|(plan, readings)| match plan {
                Ok(plan) => {
                    let readings: Vec<Reading> = readings.into_iter().flatten().collect();
                    plan.merge(&self.model.slots, &self.model.tokenizer, readings)
                }
                Err(error) => Err(error.clone()),
            })
            .collect();
        let tokens = request.plans.iter().flatten().map(Plan::tokens).sum();
        self.measures.texts(request.options.lane, request.plans.len());
        let begun = progress.begun.unwrap_or(request.queued);
        let reply = Reply {
            results,
            tokens,
            timing: Timing {
                tokenize_ms: milliseconds(request.queued - request.arrived),
                queue_ms: milliseconds(begun - request.queued),
                forward_ms: milliseconds(progress.forward),
                total_ms: milliseconds(request.arrived.elapsed()),
            },
        };
        if let Some(sender) = progress.reply.take() {
            // A caller that has gone needs no answer.
            let _ = sender.send(Ok(reply));
        }
    }

    fn measure_queue(&self, state: &State) {
        for lane in [Lane::Interactive, Lane::Bulk] {
            self.measures.queue_tokens(lane, state.queue.tokens(lane));
        }
    }

    /// The part of a forward pass that counts for the speed: what overlaps with the one that ended before is counted there.
    fn busy(&self, begun: Instant, ended: Instant) -> Duration {
        let before = std::mem::replace(&mut self.state().last_ended, ended);
        let at_once = self.model.executor.batches_at_once().max(1) as u32;
        ended.saturating_duration_since(begun.max(before)).max((ended - begun) / at_once)
    }

    fn tokens_per_s(&self) -> f64 {
        f64::from_bits(self.speed.load(Ordering::Relaxed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The queue is consistent between statements; a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fail_all(batch: &[Work], reason: &str) {
    for work in batch {
        work.request.fail(EngineError::Model(reason.into()));
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Request {
    fn plan(&self, text: usize) -> Option<&Plan> {
        self.plans[text].as_ref().ok()
    }

    /// Notes when the first part of a request goes into a batch; true the first time.
    fn begin(&self, now: Instant) -> bool {
        let mut progress = self.progress();
        let first = progress.begun.is_none();
        progress.begun.get_or_insert(now);
        first
    }

    /// Keeps a reading; true when it was the last.
    fn record(&self, text: usize, window: usize, reading: Reading, spent: Duration) -> bool {
        let mut progress = self.progress();
        progress.forward += spent;
        progress.readings[text][window] = Some(reading);
        progress.windows_left -= 1;
        progress.windows_left == 0
    }

    /// Answers with an error; false where there was an answer already.
    fn fail(&self, error: EngineError) -> bool {
        match self.progress().reply.take() {
            Some(sender) => {
                let _ = sender.send(Err(error));
                true
            }
            None => false,
        }
    }

    fn is_wanted(&self) -> bool {
        self.progress().reply.as_ref().is_some_and(|r| !r.is_closed())
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
