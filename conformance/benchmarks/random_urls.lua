-- wrk script: GET a random line of the file $BENCH_URLS, with "Accept: $BENCH_ACCEPT".
-- Requests are formatted once, so that a request costs wrk a table look-up.

local threads = 0

function setup(thread)
   threads = threads + 1
   thread:set("seed", threads)
end

function init(args)
   math.randomseed(seed)
   requests = {}
   local headers = { ["Accept"] = os.getenv("BENCH_ACCEPT") }
   for line in io.lines(os.getenv("BENCH_URLS")) do
      requests[#requests + 1] = wrk.format("GET", line, headers)
   end
end

function request()
   return requests[math.random(#requests)]
end
