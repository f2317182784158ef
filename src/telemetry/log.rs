//! Where the library's tracing goes in a program that has no subscriber of its own: one sink, a level, no buffer.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;

use crate::status::{Error, Result, Status};

/// Takes one log message: its level, the module it is from, and the text. Called on the thread that logged.
pub type Sink = Box<dyn Fn(Level, &str, &str) + Send + Sync>;

/// Longest message handed to a sink, in bytes; what is longer is cut.
const MESSAGE: usize = 2_048;

static SINK: RwLock<Option<Sink>> = RwLock::new(None);
static LEVEL: OnceLock<Option<reload::Handle<LevelFilter, Registry>>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IN_SINK: Cell<bool> = const { Cell::new(false) };
}

/// Sends what is logged at `level` or above to `sink`, or nowhere. When this returns, the sink before it is not running
/// and never runs again.
///
/// Fails with `WRONG_STATE` inside a sink, and with `ALREADY_EXISTS` when the program has a tracing subscriber of its
/// own: the messages go there.
pub fn set(sink: Option<Sink>, level: LevelFilter) -> Result<()> {
    if IN_SINK.get() {
        return Err(Error::new(Status::WrongState, "a log callback cannot change the log callback"));
    }
    let handle = LEVEL.get_or_init(|| {
        let (filter, handle) = reload::Layer::new(LevelFilter::OFF);
        let subscriber = Registry::default().with(filter).with(Forward);
        tracing::subscriber::set_global_default(subscriber).ok().map(|()| handle)
    });
    let Some(handle) = handle else {
        return Err(Error::new(
            Status::AlreadyExists,
            "this program has a tracing subscriber of its own: the messages go there",
        ));
    };
    let level = if sink.is_some() { level } else { LevelFilter::OFF };
    let before = std::mem::replace(&mut *SINK.write(), sink);
    drop(before);
    handle.reload(level).map_err(|_| Error::new(Status::Internal, "the log level could not be changed"))
}

/// Messages that a sink caused while it ran, and that were therefore dropped.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Hands every event to the sink, with its fields and those of its spans.
struct Forward;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Forward {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut text = Text::default();
        attributes.record(&mut text);
        span.extensions_mut().insert(text);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(text) = span.extensions_mut().get_mut::<Text>() {
            values.record(text);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if IN_SINK.replace(true) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let _leave = Leave;
        let mut text = Text::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<Text>().map_or("", |text| text.0.as_str());
            let _ = write!(text, "{}{{{fields}}}: ", span.name());
        }
        let mut own = Text::default();
        event.record(&mut own);
        let _ = text.write_str(&own.0);
        if let Some(sink) = SINK.read().as_ref() {
            sink(*event.metadata().level(), event.metadata().target(), &text.0);
        }
    }
}

/// Leaves the sink, also when it unwinds.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        IN_SINK.set(false);
    }
}

/// Text of a bounded length: `message key=value …`.
#[derive(Default)]
struct Text(String);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MESSAGE.saturating_sub(self.0.len());
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        Ok(())
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        let _ = match field.name() {
            "message" => write!(self, "{space}{value:?}"),
            name => write!(self, "{space}{name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// One test, because the sink is one for the process.
    #[test]
    fn sink_gets_what_its_level_asks_for_and_nothing_after_it_is_taken_away() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&seen);
        let sink: Sink = Box::new(move |level, target, text| {
            tracing::error!("from inside the sink");
            assert_eq!(set(None, LevelFilter::OFF).unwrap_err().status, Status::WrongState);
            if target.ends_with("log::tests") {
                taken.lock().push((level, text.to_owned()));
            }
        });
        set(Some(sink), LevelFilter::INFO).unwrap();
        let before = dropped();
        tracing::info_span!("session", id = 7).in_scope(|| tracing::warn!(errno = 5, "lost"));
        tracing::debug!("below the level");
        tracing::info!("{}", "é".repeat(MESSAGE));
        set(None, LevelFilter::TRACE).unwrap();
        tracing::error!("nobody hears this");
        let seen = seen.lock();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0], (Level::WARN, "session{id=7}: lost errno=5".to_owned()));
        assert_eq!((seen[1].0, seen[1].1.len()), (Level::INFO, MESSAGE));
        assert!(dropped() >= before + 2);
    }
}
