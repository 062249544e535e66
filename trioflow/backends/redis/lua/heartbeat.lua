-- include: base activities
-- Renew a worker's row. ARGV: worker. Returns: now, 1 or 0, then the activities to be cancelled with
-- their events.

local worker = ARGV[1]
if not alive(worker) then
  return { exact(now), 0 }
end
redis.call('ZADD', P .. 'workers', 'XX', now, worker)
local reply = { exact(now), 1 }
for _, token in ipairs(redis.call('SMEMBERS', P .. 'marked:' .. worker)) do
  local id, execution, command, life = parse_token(token)
  local row = load_activity(id, execution, command, life)
  reply[#reply + 1] = { id, execution, command, life, row and row.cancel or '' }
end
return reply
