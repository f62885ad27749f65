-- take_silent: deliver jobs of silent workers to a worker: what is urgent first, then by age.
-- KEYS ready:hi, ready
-- ARGV group, consumer, silent_ms, most jobs, where to go on in ready:hi, and in ready ('-': from the oldest job on,
--      '': it was walked to its end)
-- Returns {where to go on in ready:hi, and in ready (both '': all were walked),
--          {1 of ready:hi | 0 of ready, entry id, generation id, tenant} ...}. Fails with NOGROUP.
-- The whole pending list is walked, so that no number of live jobs hides a dead one: 0.1 ms for 1000 of them. Only what is
-- delivered here is claimed: a claimed job that is not delivered would look alive for one more lease.
-- @include turns
local CHECKED_AT_ONCE, PAGE = 1000, 100
local group, consumer, silent_ms, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local go_on, jobs, checked = {ARGV[5], ARGV[6]}, {}, 0

for i, key in ipairs(KEYS) do
  while go_on[i] ~= '' and #jobs < most and checked < CHECKED_AT_ONCE do
    local page = math.min(most - #jobs, PAGE)
    local pending = redis.call('XPENDING', key, group, 'IDLE', silent_ms, go_on[i], '+', page)
    local ids = {}
    for at, row in ipairs(pending) do ids[at] = row[1] end
    go_on[i] = #ids < page and '' or '(' .. ids[#ids]
    checked = checked + #ids
    -- An entry that was closed meanwhile leaves the pending list with this, and is not among the claimed.
    local claimed = #ids > 0 and redis.call('XCLAIM', key, group, consumer, silent_ms, unpack(ids)) or {}
    for _, entry in ipairs(claimed) do
      if entry and entry[2] then jobs[#jobs + 1] = {i == 1 and 1 or 0, entry[1], entry[2][2], tenant_of(entry)} end
    end
  end
end
return {go_on[1], go_on[2], unpack(jobs)}
