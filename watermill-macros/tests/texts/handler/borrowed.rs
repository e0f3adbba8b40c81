use watermill_core::{Handler, Json, MemoryBroker, Router};

fn main() {
    let broker = MemoryBroker::new();
    let rates = vec![1, 2];
    let rates = rates.as_slice();
    let handle = move |Json(at): Json<usize>| async move { println!("{}", rates[at]) };
    let handler = Handler::new("handle", handle).from(broker.subscriber(), "in");
    let _ = Router::new().add(handler);
}
