-- webhook_settle: say what becomes of a webhook that was taken.
-- KEYS due, promised
-- ARGV generation id, end of the lease in ms, outcome (done | again | open), delay_ms
-- Returns 1 settled, 0 it was not mine any more.
-- done: nothing is owed any more. again: due after delay_ms. open: the generation is not over (its log lost the end).
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) ~= tonumber(ARGV[2]) then return 0 end
local time = redis.call('TIME')
local due_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[4])
if ARGV[3] == 'again' then
  redis.call('ZADD', KEYS[1], string.format('%.0f', due_ms), ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
  if ARGV[3] == 'open' then redis.call('ZADD', KEYS[2], string.format('%.0f', due_ms), ARGV[1]) end
end
return 1
