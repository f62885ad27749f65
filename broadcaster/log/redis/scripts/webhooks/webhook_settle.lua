-- webhook_settle: record what becomes of a webhook that was taken.
-- KEYS due, promised
-- ARGV generation id, end of the lease in ms, outcome (done | retry | open), delay_ms
-- Returns 1 settled, 0 it was not mine any more.
-- done: nothing is pending any more. retry: due after delay_ms. open: the generation is not over (its log lost the end).
-- Works on a full Redis: only a script's first write is refused for memory, and ZREM needs none.
-- @include clock
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) ~= tonumber(ARGV[2]) then return 0 end
redis.call('ZREM', KEYS[1], '') -- no id
local due_ms = read_clock() + tonumber(ARGV[4])
if ARGV[3] == 'retry' then
  redis.call('ZADD', KEYS[1], digits(due_ms), ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
  if ARGV[3] == 'open' then redis.call('ZADD', KEYS[2], digits(due_ms), ARGV[1]) end
end
return 1
