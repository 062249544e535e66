-- include: base activities instances
-- Return instances with all that belongs to them, oldest first. ARGV: the last id of the page before or
-- '', how many at most, 1 if only unfinished ones are wanted, how many bytes, fields.
-- Returns 'gone' if there is no such id; or for each: id, fields, ready_at or '', inbox, activities as
-- `describe` gives them with visible_at, number and turns of each execution, ended executions as
-- `executions` gives them, requests.

local after, limit, room = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local fields = cmsgpack.unpack(ARGV[5])
local from = '-inf'
if after ~= '' then
  local seq = redis.call('HGET', P .. 'i:' .. after, 'seq')
  if not seq then
    return 'gone'
  end
  from = '(' .. seq
end
local statuses = { 'running', 'suspended' }
if ARGV[3] ~= '1' then
  statuses = { 'running', 'suspended', 'completed', 'failed', 'cancelled', 'terminated' }
end
local page = {}
for _, status in ipairs(statuses) do
  local found = redis.call(
    'ZRANGEBYSCORE', P .. 'status:' .. status, from, '+inf', 'WITHSCORES', 'LIMIT', 0, limit
  )
  for at = 1, #found, 2 do
    page[#page + 1] = { id = found[at], seq = tonumber(found[at + 1]) }
  end
end
table.sort(page, function(a, b) return a.seq < b.seq end)

local size = 0

local function add(values)
  for _, value in pairs(values) do
    if type(value) == 'string' then
      size = size + #value
    end
  end
  return values
end

local function executions_of(id, last)
  local all = {}
  for number = 1, last do
    local turns = redis.call('LRANGE', turns_key(id, number), 0, -1)
    if #turns > 0 then
      all[#all + 1] = { number, turns }
    end
    add(turns)
  end
  return all
end

local function ended_of(id)
  local kept, all = redis.call('HGETALL', P .. 'e:' .. id), {}
  local wanted = cmsgpack.unpack(ARGV[6])
  add(kept)
  for at = 1, #kept, 2 do
    local how, row = unpack(cmsgpack.unpack(kept[at + 1]))
    local values = {}
    for n, name in ipairs(wanted) do
      values[n] = row[name] and tostring(row[name]) or false
    end
    all[#all + 1] = { how, { id, values, 0, '' } }
  end
  return all
end

local reply = {}
for n = 1, math.min(limit, #page) do
  local id = page[n].id
  local row = add(redis.call('HMGET', P .. 'i:' .. id, unpack(fields)))
  local place = redis.call(
    'HMGET', P .. 'i:' .. id, 'worker', 'queue', 'priority', 'deaths', 'life', 'execution'
  )
  local held = place[1] and place[1] ~= ''
  local ready_at = held and redis.call('ZSCORE', P .. 'held:' .. place[1], id)
    or not held and ready_score(id, place[2] or '', place[3], is_suspect(place[4]))
  local activities = {}
  each_activity(id, place[5] or '', function(execution, command, activity, life)
    local one = describe(id, execution, command, life, activity)
    one[#one + 1] = exact(activity.visible_at)
    one[#one + 1] = activity.damaged and 1 or 0
    add(one)
    activities[#activities + 1] = one
  end)
  local executions = executions_of(id, tonumber(place[6]) or 0)
  local inbox = add(redis.call('HGETALL', P .. 'x:' .. id))
  local ended, requests = ended_of(id), add(redis.call('HGETALL', P .. 'r:' .. id))
  if n > 1 and size > room then
    break
  end
  reply[n] = {
    id, row, ready_at and ready_at ~= 'inf' and ready_at or '', inbox, activities, executions, ended,
    requests,
  }
end
return reply
