-- enqueue: put a generation into the open index and the queue, unless it has a job already.
-- KEYS ready, ready:hi, delayed, open
-- ARGV generation id, most jobs, priority (0 | 1)
-- Returns 1 enqueued, 0 it has a job, -1 the queue is full.
-- The open index scores a generation by the milliseconds of its newest job's entry id, so its job is found again.
local function has_job(key, ms)
  for _, entry in ipairs(redis.call('XRANGE', key, ms, ms)) do
    if entry[2][2] == ARGV[1] then return true end
  end
  return false
end
if redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
local score = redis.call('ZSCORE', KEYS[4], ARGV[1])
if score then
  local ms = string.format('%.0f', tonumber(score))
  if has_job(KEYS[1], ms) or has_job(KEYS[2], ms) then return 0 end
end
local waiting = redis.call('XLEN', KEYS[1]) + redis.call('XLEN', KEYS[2]) + redis.call('ZCARD', KEYS[3])
if waiting >= tonumber(ARGV[2]) then return -1 end
local entry = redis.call('XADD', ARGV[3] == '1' and KEYS[2] or KEYS[1], '*', 'id', ARGV[1])
redis.call('ZADD', KEYS[4], tonumber(string.match(entry, '^(%d+)')), ARGV[1])
return 1
