-- close: generations are over (or forgotten): they leave the open index, and their jobs leave the queue, also from a
-- worker.
-- KEYS ready, ready:hi, delayed, open, waiting, turns, running
-- ARGV generation id ...
-- Returns how many left the open index, which scores a generation by the milliseconds of its newest job's entry id.
-- @include clock
-- @include turns
local closed = 0
for _, id in ipairs(ARGV) do
  redis.call('ZREM', KEYS[3], id)
  local score = redis.call('ZSCORE', KEYS[4], id)
  local ms = score and digits(tonumber(score))
  for i = 1, score and 2 or 0 do
    for _, entry in ipairs(redis.call('XRANGE', KEYS[i], ms, ms)) do
      if entry[2][2] == id then
        local tenant = tenant_of(entry)
        redis.call('XDEL', KEYS[i], entry[1])
        redis.call('ZREM', KEYS[5], waiting_member_of(tenant, entry[1], shift_of(entry)))
        redis.call('ZREM', KEYS[7], member_of(tenant, entry[1]))
        rejoin_turns(KEYS[6], KEYS[5], tenant)
      end
    end
  end
  closed = closed + redis.call('ZREM', KEYS[4], id)
end
return closed
