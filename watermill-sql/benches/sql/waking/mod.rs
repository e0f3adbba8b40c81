//! What it costs writers that readers in another process are woken, and how soon those have a message. On servers
//! that flush every commit to the disk, because a lock that is held over a flush is what writers would pay with.

mod asked;
mod latency;
mod other_process;
mod server;
mod writers;

use sqlx::{MySql, Postgres};
use watermill_testkit::Figures;

pub(crate) use self::other_process::serve_if_asked_to;
use self::server::Durable;
use crate::Options;

pub(crate) async fn measure(options: &Options, figures: &mut Figures) {
    of::<Postgres>(options, figures).await;
    of::<MySql>(options, figures).await;
}

async fn of<D: Durable>(options: &Options, figures: &mut Figures) {
    let name = format!("waking/{}", D::LABEL);
    if !options.wants(&name) {
        return;
    }
    let server = server::start::<D>();
    let mut rate = 0.0;
    for count in [8, 32] {
        rate =
            writers::compare::<D>(&server, &format!("{name}/{count}-writers"), count, options, figures).await;
    }
    latency::measure::<D>(&server, &name, rate / 2.0, options, figures).await;
    asked::measure::<D>(&server, &name, options, figures).await;
}
