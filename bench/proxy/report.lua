-- What wrk measured, on one line.
function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format("MEASURED %d %d %d %d %d %d %d\n",
        summary.requests, summary.duration, summary.bytes,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
