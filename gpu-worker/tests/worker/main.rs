//! A worker on a real loopback socket, asked by a plain Arrow Flight client.

mod exchange;
mod limits;
mod support;
