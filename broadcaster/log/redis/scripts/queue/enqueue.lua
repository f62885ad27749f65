-- enqueue: put a generation into the open index and the queue, unless it has a job already.
-- KEYS ready, ready:hi, delayed, open, waiting, turns, running
-- ARGV generation id, tenant, most waiting, most waiting of this tenant, shift in ms (see turns; 0: none), group
-- Returns 1 enqueued, 0 it has a job, -1 the queue is full, -2 the tenant's share of it is.
-- A job of ready that was not delivered waits and has a turn afterwards, also where `waiting` or `turns` was lost.
-- The open index scores a generation by the milliseconds of its newest job's entry id, by which its job is found.
-- @include clock
-- @include turns
local function find_job(key, ms)
  for _, entry in ipairs(redis.call('XRANGE', key, ms, ms)) do
    if entry[2][2] == ARGV[1] then return entry end
  end
end
local function restore_place(entry)
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[6], entry[1], entry[1], 1)
  if pending[1] then return end  -- a missing group (an error) has delivered nothing
  local tenant = tenant_of(entry)
  redis.call('ZREM', KEYS[7], member_of(tenant, entry[1]))  -- first: after a removal, a full Redis takes the rest
  redis.call('ZADD', KEYS[5], 0, waiting_member_of(tenant, entry[1], shift_of(entry)))
  rejoin_turns(KEYS[6], KEYS[5], tenant)
end
if redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
local score = redis.call('ZSCORE', KEYS[4], ARGV[1])
if score then
  local ms = digits(tonumber(score))
  local job = find_job(KEYS[1], ms)
  if job then restore_place(job) end
  if job or find_job(KEYS[2], ms) then return 0 end
end
if redis.call('ZCARD', KEYS[5]) + redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[3]) then return -1 end
if count_of(KEYS[5], ARGV[2]) >= tonumber(ARGV[4]) then return -2 end
local shift = tonumber(ARGV[5])
local fields = {'id', ARGV[1], 'tenant', ARGV[2]}
if shift ~= 0 then fields[5], fields[6] = 'shift', digits(shift) end
local entry_id = redis.call('XADD', KEYS[1], '*', unpack(fields))
redis.call('ZADD', KEYS[4], tonumber(string.match(entry_id, '^(%d+)')), ARGV[1])
redis.call('ZADD', KEYS[5], 0, waiting_member_of(ARGV[2], entry_id, shift))
rejoin_turns(KEYS[6], KEYS[5], ARGV[2])
return 1
