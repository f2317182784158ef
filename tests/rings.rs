//! Peers on one host send short frames by a ring and the others by UCX: order, bytes, ends.

mod common;

use common::mixed::{MODES, exchange, seed};
use common::{Pair, unix_address, with_transports};
use rdma_engine::Status;
use rdma_engine::engine::options::transport;
use rdma_engine::engine::request::{Completion, Op, Request};

#[test]
fn messages_of_every_length_keep_their_order() {
    let seed = seed();
    for (client, server) in MODES {
        eprintln!("{client:?} {server:?}");
        let pair = Pair::new(&unix_address(), &with_transports(transport::ALL), client, server);
        exchange(&pair, seed, 3_000);
        pair.close();
    }
}

#[test]
fn what_was_sent_before_a_close_arrives_before_it() {
    for (client, server) in MODES {
        for messages in [1, 100, 300] {
            let options = with_transports(transport::ALL);
            let mut pair = Pair::new(&unix_address(), &options, client, server);
            // So that the peer is known to know the session.
            let hello = Request { op: Op::Send as u16, session: pair.accepted, ..Request::default() };
            pair.server.submit(hello);
            pair.wait_client(|c| c.op == Op::Message as u32);
            for i in 0..messages {
                let data = u64::to_le_bytes(i);
                pair.client.submit(Request {
                    user_data: 1,
                    op: Op::Send as u16,
                    session: pair.session.id(),
                    data: data.as_slice().into(),
                    ..Request::default()
                });
            }
            assert_eq!(pair.session.close(9), Status::Ok);
            pair.wait_client(|c| c.op == Op::SessionClosed as u32 && c.user_data == 9);
            let gone = pair.client.kept.iter().filter(|c| c.user_data == 1 && c.status == 0).count();
            let end = pair.wait_server(|c| c.op == Op::SessionClosed as u32);
            assert_eq!(end.status, Status::Ok as i32);
            let came: Vec<u64> =
                pair.server.kept.iter().filter(|c| c.op == Op::Message as u32).map(number).collect();
            // What waited for the window was canceled and did not leave; one that UCX had not ended may have.
            let name = format!("{client:?} {server:?} {messages}: {gone} {came:?}");
            assert!(came.iter().copied().eq(0..came.len() as u64) && came.len() >= gone, "{name}");
            pair.close();
        }
    }
}

fn number(c: &Completion) -> u64 {
    u64::from_le_bytes(c.data[..8].try_into().unwrap())
}
