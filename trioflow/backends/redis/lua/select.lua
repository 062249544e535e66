-- include: base activities reading troubles
-- List or count instances, newest first, a part of them at a time.
-- ARGV: filter, fields or '' for a number, how many at most, look at how many, seq before which
-- ('+inf' or '(seq'), or '' and the last id of the page before; then '' or what to group by, and 1 if
-- that is an attribute; then '' or those ids, packed, among which is all that is in the trouble.
-- Returns 'gone' if there is no such id, or seq before which to go on or '', then the number, the
-- records, or name, value and number of each group.

local where = read_filter(ARGV[1])
local fields = ARGV[2] ~= '' and cmsgpack.unpack(ARGV[2])
local limit, size, before = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local group, group_of_attribute = ARGV[7], ARGV[8] == '1'
if before == '' then
  local seq = redis.call('HGET', P .. 'i:' .. ARGV[6], 'seq')
  if not seq then
    return 'gone'
  end
  before = '(' .. seq
end

-- The set of a value is in the order of the list; then so is what of it has been seen.
local places = {}
local lead = where.attributes[1]
local fewest = INF
for _, one in ipairs(where.attributes) do
  local number = one[2] == '=' and redis.call('ZCARD', P .. word_key(one[1], one[3])) or INF
  if number < fewest then
    lead, fewest = one, number
  end
end
if lead and lead[2] == '=' then
  places[1] = word_key(lead[1], lead[3])
elseif where.parent and where.parent ~= '' then
  places[1] = 'children:' .. where.parent
  where.needs_row = where.needs_row or where.statuses
else
  for _, status in ipairs(STATUSES) do
    if not where.statuses or where.statuses[status] then
      places[#places + 1] = 'status:' .. status
    end
  end
end

-- Those of a workflow are few, perhaps; all of them are listed so unless an older trioflow has stored some.
local function see_workflow()
  local number = 0
  for _, place in ipairs(places) do
    number = number + redis.call('ZCARD', P .. place)
  end
  for _, one in ipairs(where.compared) do
    local of = 'workflow:' .. one[3]
    if one[1] == 'workflow' and one[2] == '=' and redis.call('ZCARD', P .. of) < number
      and redis.call('GET', P .. 'seq') == redis.call('GET', P .. 'listed') then
      places = { of }
    end
  end
end

see_workflow()

local number = 0
if not fields and group == '' and not where.needs_row and not where.id_prefix and places[1] then
  for _, place in ipairs(places) do
    number = number + redis.call('ZCARD', P .. place)
  end
  return { '', number }
end

local seen = {}
-- Few instances in a range of numbers are looked up and sorted; of many, some are among the newest.
local function see_range()
  if not lead or lead[2] == '=' then
    return false
  end
  local key, bound, from, to = P .. 'iq:' .. lead[1], exact(lead[4]), '-inf', '+inf'
  if lead[2] == '<' or lead[2] == '<=' then
    to = lead[2] == '<' and '(' .. bound or bound
  else
    from = lead[2] == '>' and '(' .. bound or bound
  end
  if redis.call('ZCOUNT', key, from, to) > 1000 then
    return false
  end
  local last = before == '+inf' and INF or tonumber(string.sub(before, 2))
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, from, to)) do
    local seq = tonumber(redis.call('HGET', P .. 'i:' .. id, 'seq'))
    if seq and seq < last then
      seen[#seen + 1] = { id = id, seq = seq }
    end
  end
  return true
end

-- What is in trouble is looked up likewise if it is not much: see find_troubles.lua.
local function see_trouble()
  local ids = ARGV[9] ~= '' and cmsgpack.unpack(ARGV[9])
  if not ids then
    return false
  end
  local last = before == '+inf' and INF or tonumber(string.sub(before, 2))
  for _, id in ipairs(ids) do
    local seq = tonumber(redis.call('HGET', P .. 'i:' .. id, 'seq'))
    if seq and seq < last then
      seen[#seen + 1] = { id = id, seq = seq }
    end
  end
  return true
end

where.needs_row = where.needs_row or (lead and where.statuses)
if not see_trouble() and not see_range() then
  for _, place in ipairs(places) do
    local found = redis.call(
      'ZREVRANGEBYSCORE', P .. place, before, '-inf', 'WITHSCORES', 'LIMIT', 0, size
    )
    for n = 1, #found, 2 do
      seen[#seen + 1] = { id = found[n], seq = tonumber(found[n + 1]) }
    end
  end
end
table.sort(seen, function(a, b) return a.seq > b.seq end)

-- Count an instance for each value that it has of what is grouped by.
local groups, order = {}, {}
local function add_to(name, value)
  local key = name .. ':' .. value
  if not groups[key] then
    groups[key] = { name, value, 0 }
    order[#order + 1] = key
  end
  groups[key][3] = groups[key][3] + 1
end

local function add_to_groups(id)
  if group_of_attribute then
    each_indexed(redis.call('HGET', P .. 'i:' .. id, 'indexed'), function(name, word)
      if string.sub(name, 2) == group then
        add_to(name, word)
      end
    end)
  else
    add_to('', redis.call('HGET', P .. 'i:' .. id, group) or '')
  end
end

local reply = { '' }
for n = 1, math.min(size, #seen) do
  if means(where, seen[n].id) then
    number = number + 1
    if fields then
      reply[#reply + 1] = record(seen[n].id, fields)
    elseif group ~= '' then
      add_to_groups(seen[n].id)
    end
  end
  if number == limit then
    return fields and reply or { '', number }
  end
end
-- No place had more than it was asked for, so what was seen goes down without a gap to here.
if #seen >= size then
  reply[1] = exact(seen[size].seq)
end
for _, key in ipairs(order) do
  reply[#reply + 1] = groups[key]
end
return (fields or group ~= '') and reply or { reply[1], number }
