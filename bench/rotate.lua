-- wrk's script: sends the requests of a file in turn, at a given rate if RATE is set, and
-- prints one line that the bench reads.
local ffi = require("ffi")
ffi.cdef[[
  typedef struct { long sec; long nsec; } bench_time;
  int clock_gettime(int clock, bench_time *time);
]]

local moment = ffi.new("bench_time")
local function now()
  ffi.C.clock_gettime(1, moment)
  return tonumber(moment.sec) * 1e3 + tonumber(moment.nsec) / 1e6
end

local requests, turn = {}, 0
local rate = tonumber(os.getenv("BENCH_RATE") or "0")
local due

function init(_)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  for body in io.lines(os.getenv("BENCH_BODIES")) do
    wrk.headers["X-User-Id"] = "user-" .. #requests
    requests[#requests + 1] = wrk.format(nil, nil, nil, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

-- The next free connection takes the next moment of the timetable, so that a server that is
-- slow for a while gets what it missed afterwards, as it would from real callers.
if rate > 0 then
  function delay()
    local time = now()
    due = due and due + 1000 / rate or time
    return math.max(0, math.floor(due - time + 0.5))
  end
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format("BENCH %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
