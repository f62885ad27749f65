-- take: deliver jobs to a worker: first the jobs that have started before, then one job of each tenant in turn.
-- KEYS ready, ready:hi, waiting, turns, running, seen
-- ARGV group, consumer, most jobs, most running of one tenant (0: any), room of a tenant that is not named below,
--      {tenant, room} ...: how many more of its jobs this worker may run, where that is less
-- Returns {1: call it once more at once, there may be more (else 0), newest id seen in ready, newest id in ready:hi,
--          {1 of ready:hi | 0 of ready, entry id, generation id, tenant} ...}. Fails with NOGROUP.
-- A job of ready is delivered by XCLAIM, whatever stands before it in the stream; one that is pending already (of a
-- worker of an earlier version, which reads the stream in its order) stays where it is. What an earlier version has
-- enqueued names no tenant and waits under the empty name; `seen` is up to where the stream was read for it.
-- A tenant with as many running as it may have leaves the turns until one of them ends (see rejoin_turns), so that no
-- call meets more of the others than it has parked itself, or was named.
-- @include turns
local SEEN_AT_ONCE, PASSED_AT_ONCE = 100, 100
local IDLE_FOR_EVER = '9007199254740991'
local group, consumer, most, most_running = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local rooms, named = {}, 0
for i = 6, #ARGV, 2 do
  rooms[ARGV[i]] = tonumber(ARGV[i + 1])
  named = named + 1
end
local jobs, passed = {}, 0
local function room_of(tenant) return rooms[tenant] or tonumber(ARGV[5]) end
local function deliver(stream, entry, tenant)
  jobs[#jobs + 1] = {stream, entry[1], entry[2][2], tenant}
  rooms[tenant] = room_of(tenant) - 1
end

local begun = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most, 'STREAMS', KEYS[2], '>')
for _, entry in ipairs(begun and begun[1] and begun[1][2] or {}) do
  local tenant = tenant_of(entry)
  redis.call('ZADD', KEYS[5], 0, member_of(tenant, entry[1]))
  deliver(1, entry, tenant)
end

local seen = redis.call('GET', KEYS[6]) or '0-0'
local unseen = redis.call('XRANGE', KEYS[1], '(' .. seen, '+', 'COUNT', SEEN_AT_ONCE)
for _, entry in ipairs(unseen) do
  seen = entry[1]
  if entry[2][3] ~= 'tenant' then
    redis.call('ZADD', KEYS[3], 0, member_of('', seen))
    rejoin_turns(KEYS[4], KEYS[3], '')
  end
end
if #unseen > 0 then redis.call('SET', KEYS[6], seen) end

-- The tenant's oldest job that no worker holds, and whether it may have more.
local function pick(tenant)
  while passed < PASSED_AT_ONCE do
    local oldest = oldest_of(KEYS[3], tenant, 2)
    if not oldest[1] then return nil, false end
    local entry_id = entry_of(oldest[1])
    local found = redis.call('XCLAIM', KEYS[1], group, consumer, IDLE_FOR_EVER, entry_id, 'FORCE')
    redis.call('ZREM', KEYS[3], oldest[1])
    if found[1] and found[1][2] then
      redis.call('ZADD', KEYS[5], 0, member_of(tenant, entry_id))
      return found[1], oldest[2] ~= nil
    end
    passed = passed + 1
  end
  return nil, true
end

local function serve(tenant)
  if most_running > 0 and count_of(KEYS[5], tenant) >= most_running then
    redis.call('ZREM', KEYS[4], tenant)
    passed = passed + 1
    return true
  end
  local entry, has_more = pick(tenant)
  if entry then deliver(0, entry, tenant) end
  if not has_more then
    redis.call('ZREM', KEYS[4], tenant)
    passed = passed + 1
  elseif entry then
    to_the_end(KEYS[4], tenant)
  end
  return entry ~= nil or not has_more
end

local moved = true
while moved and #jobs < most and passed < PASSED_AT_ONCE do
  moved = false
  for _, tenant in ipairs(redis.call('ZRANGE', KEYS[4], 0, named + most - 1)) do
    if #jobs >= most or passed >= PASSED_AT_ONCE then break end
    if room_of(tenant) > 0 then moved = serve(tenant) or moved end
  end
end
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local is_more = #unseen == SEEN_AT_ONCE or passed >= PASSED_AT_ONCE
return {is_more and 1 or 0, seen, newest and newest[1] or '0-0', unpack(jobs)}
