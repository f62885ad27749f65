-- drop_consumers: consumers of workers that have ended leave the group of both streams.
-- KEYS ready:hi, ready
-- ARGV group, silent_ms: for how long a consumer that is dropped has sent no command
-- Returns how many were dropped.
-- One that holds a job stays until another worker has taken the job: a job of a deleted consumer would never be delivered.
-- That is decided and done in this one step. A worker that was paused is a consumer again with its next command.
local DROPPED_AT_ONCE = 1000
local dropped = 0
for _, key in ipairs(KEYS) do
  local rows = redis.pcall('XINFO', 'CONSUMERS', key, ARGV[1])
  if rows.err and not (string.find(rows.err, 'no such key') or string.find(rows.err, 'NOGROUP')) then return rows end
  for _, row in ipairs(rows) do
    local consumer = {}
    for i = 1, #row, 2 do consumer[row[i]] = row[i + 1] end
    if consumer.pending == 0 and consumer.idle > tonumber(ARGV[2]) and dropped < DROPPED_AT_ONCE then
      redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], consumer.name)
      dropped = dropped + 1
    end
  end
end
return dropped
