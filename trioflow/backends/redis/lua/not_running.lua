-- include: base
-- Return those of the ids that have ended or are suspended. ARGV: ids, and their lives or ''.
-- With lives also those that are not there, and those of another life.

local ids, reply = cmsgpack.unpack(ARGV[1]), {}
local lives = ARGV[2] ~= '' and cmsgpack.unpack(ARGV[2])
for n, id in ipairs(ids) do
  local row = redis.call('HMGET', P .. 'i:' .. id, 'status', 'life')
  local running = row[1] == 'running'
  if lives then
    running = running and (row[2] or '') == lives[n]
  else
    running = running or not row[1]
  end
  if not running then
    reply[#reply + 1] = id
  end
end
return reply
