-- prune: what was settled by a worker of an earlier version, or lost with its stream, runs no more.
-- KEYS ready, ready:hi, waiting, turns, running
-- ARGV from which place of running on, how many
-- Returns how many were checked.
-- @include turns
local from = tonumber(ARGV[1])
local members = redis.call('ZRANGE', KEYS[5], from, from + tonumber(ARGV[2]) - 1)
for _, member in ipairs(members) do
  local id = entry_of(member)
  if not (redis.call('XRANGE', KEYS[1], id, id)[1] or redis.call('XRANGE', KEYS[2], id, id)[1]) then
    redis.call('ZREM', KEYS[5], member)
    rejoin_turns(KEYS[4], KEYS[3], string.match(member, '^(.-) '))
  end
end
return #members
