-- regain: the queue lost the job of a generation that a worker runs (a failover without its newest entries, an emptied
-- Redis): the worker has it back, as if it had been delivered a moment ago, and the generation is in the open index.
-- KEYS ready, ready:hi, delayed, open, waiting, running
-- ARGV group, worker, generation id, tenant
-- Returns {1 of ready:hi | 0 of ready, entry id}. Fails with NOGROUP. Safe to repeat. No bound refuses the job: the
-- generation was admitted once.
-- @include clock
-- @include turns
local function newest_job()
  local score = redis.call('ZSCORE', KEYS[4], ARGV[3])
  local ms = score and digits(tonumber(score))
  for stream = 1, ms and 2 or 0 do
    for _, entry in ipairs(redis.call('XRANGE', KEYS[stream], ms, ms)) do
      if entry[2][2] == ARGV[3] then return stream, entry[1], tenant_of(entry), shift_of(entry) end
    end
  end
end
local stream, entry_id, tenant, shift = newest_job()
if not stream then
  stream, tenant, shift = 1, ARGV[4], 0
  entry_id = redis.call('XADD', KEYS[1], '*', 'id', ARGV[3], 'tenant', tenant)
  redis.call('ZADD', KEYS[4], tonumber(string.match(entry_id, '^(%d+)')), ARGV[3])
end
redis.call('XCLAIM', KEYS[stream], ARGV[1], ARGV[2], 0, entry_id, 'FORCE', 'JUSTID')
redis.call('ZREM', KEYS[3], ARGV[3])
redis.call('ZREM', KEYS[5], waiting_member_of(tenant, entry_id, shift))
redis.call('ZADD', KEYS[6], 0, member_of(tenant, entry_id))
return {stream - 1, entry_id}
