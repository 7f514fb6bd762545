//! How much memory what is read takes: the cache keeps it within its bound.

use super::filter::PerformanceFilter;
use super::model::{
    AgentSummary, BenchmarkId, LogChunk, Performance, PerformanceReport, Session, SessionId, SessionLog, ToolCall,
};
use crate::writer::Weigh;

impl Weigh for BenchmarkId {
    fn heap_bytes(&self) -> usize {
        self.as_str().len()
    }
}

impl Weigh for SessionId {
    fn heap_bytes(&self) -> usize {
        self.as_str().len()
    }
}

impl Weigh for PerformanceFilter {
    fn heap_bytes(&self) -> usize {
        self.benchmark.heap_bytes() + self.agent.heap_bytes()
    }
}

impl Weigh for Session {
    fn heap_bytes(&self) -> usize {
        let Self { id, benchmark_id, agent, interface, final_status, .. } = self;
        id.heap_bytes()
            + benchmark_id.heap_bytes()
            + agent.heap_bytes()
            + interface.heap_bytes()
            + final_status.heap_bytes()
    }
}

impl Weigh for LogChunk {
    fn heap_bytes(&self) -> usize {
        self.content.heap_bytes()
    }
}

impl Weigh for ToolCall {
    fn heap_bytes(&self) -> usize {
        self.name.heap_bytes() + self.input.heap_bytes() + self.output.heap_bytes()
    }
}

impl Weigh for SessionLog {
    fn heap_bytes(&self) -> usize {
        self.session.heap_bytes() + self.chunks.heap_bytes() + self.tool_calls.heap_bytes()
    }
}

impl Weigh for Performance {
    fn heap_bytes(&self) -> usize {
        let Self { session_id, benchmark_id, agent, prompt_digest, .. } = self;
        session_id.heap_bytes() + benchmark_id.heap_bytes() + agent.heap_bytes() + prompt_digest.heap_bytes()
    }
}

impl Weigh for AgentSummary {
    fn heap_bytes(&self) -> usize {
        self.agent.heap_bytes()
    }
}

impl Weigh for PerformanceReport {
    fn heap_bytes(&self) -> usize {
        self.performances.heap_bytes() + self.summary.heap_bytes()
    }
}
