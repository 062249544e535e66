-- include: base
-- Return what is kept of ended executions, in any order: number, how it ended, and its row.
-- ARGV: id, fields.

local fields = cmsgpack.unpack(ARGV[2])
local kept = redis.call('HGETALL', P .. 'e:' .. ARGV[1])
local reply = {}
for at = 1, #kept, 2 do
  local how, row = unpack(cmsgpack.unpack(kept[at + 1]))
  local values = {}
  for n, name in ipairs(fields) do
    values[n] = row[name] and tostring(row[name]) or false
  end
  reply[#reply + 1] = { how, { ARGV[1], values, 0, '' } }
end
return reply
