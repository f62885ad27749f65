-- include/closing: a generation leaves the queue. ARGV are those of the script that includes it.
-- KEYS ready, ready:hi, delayed, open, waiting, turns, running
-- close(generation id) → 1 if it left the open index, which scores a generation by the milliseconds of its newest job's
-- entry id, else 0. Its job leaves the queue, also from a worker.
-- @include clock
-- @include turns
local function close(id)
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
  return redis.call('ZREM', KEYS[4], id)
end
